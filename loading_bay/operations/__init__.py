"""Operations on a deployed stack, on AWS or on this machine: watch it, run batches, replay, review."""
