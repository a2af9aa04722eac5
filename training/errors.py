"""What a user can cause and mend: every failure that ends a command in one clear line."""


class TrainingError(Exception):
    """Something is missing or wrong, and the message says what to do about it."""
