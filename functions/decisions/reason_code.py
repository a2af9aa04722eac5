"""Why a photo was not routed, in codes that programs can branch on; the sentence beside a code is for people."""

from enum import StrEnum


class ReasonCode(StrEnum):
    """The codes in records, events and the API. A new code can be added at any time; none changes its meaning."""

    # The photo's subject
    NO_VEHICLE = "NO_VEHICLE"
    SEVERAL_VEHICLES = "SEVERAL_VEHICLES"
    TOO_SMALL = "TOO_SMALL"
    UNSURE = "UNSURE"
    # The file
    UNREADABLE = "UNREADABLE"
    TOO_LARGE = "TOO_LARGE"
    NOT_FOUND = "NOT_FOUND"
    # Failures, after which the photo is classified again
    ENDPOINT_UNAVAILABLE = "ENDPOINT_UNAVAILABLE"
    INVALID_PREDICTION = "INVALID_PREDICTION"
    STORAGE_UNAVAILABLE = "STORAGE_UNAVAILABLE"
    UNEXPECTED = "UNEXPECTED"
