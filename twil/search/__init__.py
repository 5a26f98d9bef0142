"""Settings searched for: trials of several seeds, kept on disk, in one process or several.

A way to choose the next trial goes into `study`.
"""
