"""The command line: options, one library call, rendering.

A command is a module with a function `command`, named in `main`; how its run or table looks lies beside it.
"""
