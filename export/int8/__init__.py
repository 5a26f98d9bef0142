"""A graph in 8 bits: what is rewritten, by which ranges, and what it is held to.

Another way to read numbers goes into `rewrite`, what must be kept into `guard`.
"""
