"""The commands of `python -m training`, a file for each stage of a model's life."""
