"""What can go wrong that the person at the keyboard can put right."""


class MonitoringError(Exception):
    """One clear line for the user; the command line prints it and exits with status 1."""


class SourceNotFound(MonitoringError):
    """SOURCE is no folder, no file and no S3 prefix with anything in it."""


class BaselineUnusable(MonitoringError):
    """The baseline file is missing, damaged, or speaks of other classes."""


class DecisionsUnreadable(MonitoringError):
    """The file of decisions is missing or not a JSON list."""
