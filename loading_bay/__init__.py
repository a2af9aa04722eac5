"""Loading Bay: the command `loading-bay` and its parts."""
