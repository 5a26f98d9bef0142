"""Tables in and out, as streams: a format goes into `formats`, `readers` and `writers`."""
