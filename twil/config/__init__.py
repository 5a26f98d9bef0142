"""Typed settings: what a model and a run are made of.

A setting is a field of a section here; every command and `--set` then know it.
"""
