"""The float graph: what of a model is written, with which operators."""
