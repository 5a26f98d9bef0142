"""Texts to predictions and vectors, without torch: an engine on a bundle, and a pipeline from table to table."""
