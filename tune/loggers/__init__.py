"""Copies of the metrics for TensorBoard and MLflow."""
