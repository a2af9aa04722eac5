"""A deployed stack for every command: its outputs, classes, decisions and addresses, and AWS errors."""
