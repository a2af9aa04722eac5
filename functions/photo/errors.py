"""Why a photo cannot be read now, or ever. Step Functions matches these classes by their names."""


class PhotoNotFound(Exception):
    """The object was deleted, archived or overwritten before it could be read. Never retried."""


class PhotoTooLarge(Exception):
    """The photo has more bytes, more pixels or needs more memory than this stack accepts. Never retried."""


class UnreadablePhoto(Exception):
    """The object is not a photo in an accepted format, is damaged, or is too expensive to decode. Never retried."""


class StorageUnavailable(Exception):
    """S3 throttled, failed or did not answer in time. Worth another try."""


class DecoderFailed(Exception):
    """The decoding process did not start, or did not end through any fault of the photo. Worth another try."""
