"""The model's whole life: data set, training, evaluation, endpoint."""
