"""Why a photo is rejected; neither is ever retried."""


class PhotoTooLarge(Exception):
    """The photo has more bytes, more pixels or needs more memory than this stack accepts."""


class UnreadablePhoto(Exception):
    """The object is no picture in an accepted format, is damaged, or asks for more work than a photo may."""
