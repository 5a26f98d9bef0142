"""Labelled sets, batches, masking: rows on their way to a model, without torch.

Another masking goes into `masking`, another order of batches into `batching`.
"""
