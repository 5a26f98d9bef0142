"""Prediction from a bundle with ONNX Runtime, without torch."""
