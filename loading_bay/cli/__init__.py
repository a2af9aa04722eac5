"""The command `loading-bay`: what a user types is read here, and nothing else happens here."""
