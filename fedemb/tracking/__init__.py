"""Public numbers of a run, told to TensorBoard, MLflow or Weights & Biases."""
