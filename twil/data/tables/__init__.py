"""Tables in and out, as streams.

A format goes into `formats`, `readers` and `writers`; a compression into `streams`.
"""
