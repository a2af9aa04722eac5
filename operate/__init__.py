"""What people do with a deployed stack, in the cloud or on this machine: follow it, run batches, replay, review."""
