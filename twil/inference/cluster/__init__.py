"""The same pipeline on the machines of a Ray cluster."""
