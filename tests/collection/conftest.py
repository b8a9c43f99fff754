"""The fixtures of these tests; see tests/collection/workbench.py."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "collection"))

from workbench import both, cache, clip, docs, joint, notes, omni, other, shared_cache, tiny, vit  # noqa: F401
