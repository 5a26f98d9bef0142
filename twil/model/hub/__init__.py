"""Encoders of the transformers library: read, asked, and written so that it opens them again.

What another family needs goes into `reading`.
"""
