"""What every command knows of a deployed stack: its outputs, classes, decisions and addresses, and AWS's refusals."""
