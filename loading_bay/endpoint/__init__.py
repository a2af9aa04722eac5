"""SageMaker endpoints: models hosted, moved by canary, looked up and deleted."""
