"""The one place that holds twil's version."""

__version__ = "0.1.0"
