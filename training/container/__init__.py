"""What runs inside SageMaker and, unchanged, on this machine: the network, its training, its server."""
