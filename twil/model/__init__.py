"""The encoder, its heads, and model folders on disk."""
