"""The same stack on this machine: the real template on a local AWS, the real model behind a local endpoint."""
