"""What all tests share: hypothesis draws the same examples every time, or new ones with NLPKIT_FUZZ=1."""

import os

from hypothesis import settings

settings.register_profile("same", derandomize=True)
if not os.environ.get("NLPKIT_FUZZ"):
    settings.load_profile("same")
