"""A graph that takes texts: the tokenizer as operators before the bundle's own graph.

What is done to a raw text goes into `steps`.
"""
