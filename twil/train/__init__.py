"""The training loop and what runs on it."""
