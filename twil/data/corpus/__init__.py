"""The corpus of a pretraining run: pairs and texts, cleaned, encoded once and held out by conversation."""
