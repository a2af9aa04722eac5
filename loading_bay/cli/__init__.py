"""The command `loading-bay`: parses the command line, and leaves the work to other packages."""
