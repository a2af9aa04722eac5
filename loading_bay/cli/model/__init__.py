"""Commands for the model, one module per stage of its life cycle."""
