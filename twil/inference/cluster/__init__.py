"""The same pipeline on the machines of a Ray cluster.

What a worker does with a block goes into `blocks`.
"""
