"""The reasons why a photo cannot be read. Step Functions matches these classes by name."""


class PhotoNotFound(Exception):
    """The object was deleted, archived or overwritten before it could be read. Never retried."""


class PhotoTooLarge(Exception):
    """The photo has more bytes or pixels, or needs more memory, than this stack accepts. Never retried."""


class UnreadablePhoto(Exception):
    """The object is not a photo in an accepted format, is damaged, or is too expensive to decode. Never retried."""


class StorageUnavailable(Exception):
    """S3 throttled, failed or did not answer in time. Worth another try."""


class DecoderFailed(Exception):
    """The decoding process did not start, or ended for a reason other than the photo. Worth another try."""
