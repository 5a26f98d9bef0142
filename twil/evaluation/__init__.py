"""What a model is worth, looked at from all sides; nothing here trains."""
