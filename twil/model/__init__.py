"""The encoder, its heads, and model folders on disk.

A head goes into `heads`, a switch of the architecture into `encoder` and `twil.config.model`.
"""
