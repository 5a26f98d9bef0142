"""From raw text to token ids, and where the vocabulary comes from.

A preparation goes into `preparation`, a step of normalisation into `normalization`.
"""
