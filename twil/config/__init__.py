"""Typed configuration: what a model and a run are made of."""
