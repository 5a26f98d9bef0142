"""Typed settings: what a model and a run are made of.

A setting is a field of a section here, which `--set` of the commands that train then knows.
"""
