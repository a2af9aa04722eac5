"""Property tests take the same examples in every run, so that a run says something about the change it is of.

Long runs (`make fuzz`, which sets FUZZ_EXAMPLES) look for new ones; what they find becomes an explicit example.
"""

import os

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True)
if "FUZZ_EXAMPLES" not in os.environ:
    settings.load_profile("repeatable")
