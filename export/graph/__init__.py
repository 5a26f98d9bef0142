"""The float graph: what of a model is written, with which operators.

A head that is exported goes into `heads`, an operator that does in one what many did into `optimise`.
"""
