"""The stack on this machine: the real template on a local AWS, and the real model behind a local endpoint."""
