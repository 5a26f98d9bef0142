"""From raw text to token ids, and where the pieces come from."""
