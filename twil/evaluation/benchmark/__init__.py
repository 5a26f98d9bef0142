"""How fast models are on this machine, each in a process of its own.

Another runtime to time is a module such as `bundle_process`.
"""
