"""Encoders of the transformers library: read, asked, and written so that the library opens them again."""
