"""Training in AWS SageMaker."""
