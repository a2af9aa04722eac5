"""The tests: a regular package, because a dependency of the training extra installs another package named tests."""
