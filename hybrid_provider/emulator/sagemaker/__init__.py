"""A SageMaker training service that runs the training script on this machine."""
