"""SageMaker endpoints: deployment, canary updates, status and deletion."""
