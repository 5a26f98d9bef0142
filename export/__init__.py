"""From a model folder to an ONNX bundle."""
