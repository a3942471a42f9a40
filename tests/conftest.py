"""What every test shares: Keras's backend, and Hypothesis's settings."""

from __future__ import annotations

import os

from hypothesis import settings

# Need what `make test-arm` builds.
collect_ignore = [] if "BILSTM_ARM_ENGINE" in os.environ else ["arm"]

os.environ["KERAS_BACKEND"] = "torch"  # before any test imports keras

# No deadlines: a test's first example may load a library. CI tries the same examples every time.
settings.register_profile("development", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "development")
