"""What every test shares: Keras's backend, and Hypothesis's settings."""

from __future__ import annotations

import os
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import settings

import bilstm

# Need what `make test-arm` builds.
collect_ignore = [] if "BILSTM_ARM_ENGINE" in os.environ else ["arm"]

os.environ["KERAS_BACKEND"] = "torch"  # before any test imports keras


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="run the tests that are marked fast, and no others")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--fast"):
        config.option.markexpr = "fast"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Importing all other test modules would take longer than the tests."""
    fast, module = config.getoption("--fast"), collection_path.suffix == ".py"
    return True if fast and module and "pytest.mark.fast" not in collection_path.read_text() else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Weights for which a test gives no seed are the same in every run, and others in each test.

    Beside another library, a probability of one half within rounding would otherwise fail a test once in a hundred.
    And PyTorch has one thread: several wait busily, which takes most of the time of small tests.
    """
    bilstm.utils.set_random_seed(zlib.crc32(item.nodeid.encode()))
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


# No deadlines: a test's first example may load a library. CI tries the same examples every time.
settings.register_profile("development", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "development")
