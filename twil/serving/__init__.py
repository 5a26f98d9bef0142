"""A service on HTTP: the texts of many requests computed together, without torch.

A route goes into `app`, how texts wait for each other into `batching`.
"""
