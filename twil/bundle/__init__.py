"""An exported model: its folder, its name, its cached copies, and the session that runs it.

A provider (a place to run) goes into `providers`, a fact of the manifest into `bundle`.
"""
