"""How good predictions are, and how sure that is.

A metric goes into `metrics`.
"""
