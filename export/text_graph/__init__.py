"""A graph that takes texts: the tokenizer as operators before the bundle's own graph."""
