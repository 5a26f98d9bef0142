"""Texts to predictions and vectors, without torch: an engine on a bundle; a pipeline from table to table."""
