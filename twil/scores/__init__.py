"""How good predictions are, and how sure that is.

A metric of labels goes into `label_scores`, of numbers into `value_scores`, its name into `metrics`.
"""
