"""Draws photos by chance, for people to look at: routed ones to audit, decided ones for a second opinion."""

import hashlib


def is_drawn(photo: str, share: float, salt: str) -> bool:
    """Tell whether a photo belongs to the `share` (0 to 1) that is drawn.

    The draw is a hash, so a photo is drawn again when it comes again. Without the salt, nobody can predict it.
    """
    digest = hashlib.sha256(f"{salt}\n{photo}".encode(errors="replace")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64
