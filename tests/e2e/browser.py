"""The browser for page tests: the Chromium or Chrome of this machine."""

import os
import shutil

import pytest

MISSING = "they need Chromium, which `make setup-browser` installs"


def find_chromium() -> str:
    """Return the path of Chromium; without one, skip the tests, or fail them where CI runs them."""
    if path := shutil.which("chromium") or shutil.which("google-chrome"):
        return path
    if os.environ.get("CI"):
        pytest.fail(MISSING)
    pytest.skip(MISSING)
