"""Texts to predictions and vectors, without torch: an engine, and a pipeline from table to table.

A column of the output goes into `columns`, a step of the pipeline into `pipeline`.
"""
