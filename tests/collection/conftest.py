"""The fixtures of these tests; see tests/collection/workbench.py."""

from __future__ import annotations

from workbench import both, cache, clip, docs, joint, notes, omni, other, shared_cache, tiny, vit  # noqa: F401
