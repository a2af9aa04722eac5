"""The browser that tests of pages run in: Chromium as the system has it."""

import os
import shutil
import warnings

import pytest

MISSING = "NO BROWSER: chromium is not installed, so no test of a page runs (Debian: apt-get install chromium)"


def find_chromium() -> str:
    """Return the path of Chromium; without one the tests are skipped loudly, and fail where CI runs them."""
    if path := shutil.which("chromium"):
        return path
    if os.environ.get("CI"):
        pytest.fail(MISSING)
    warnings.warn(MISSING, stacklevel=2)
    pytest.skip(MISSING)
