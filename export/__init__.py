"""From a model folder to an ONNX bundle that is checked against the model.

An architecture's fused operators go into `graph`, another arithmetic into `reduced` or `int8`.
"""
