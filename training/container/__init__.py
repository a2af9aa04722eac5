"""The networks, their training and their server, which run inside SageMaker and, unchanged, on this machine."""
