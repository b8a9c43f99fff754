"""What is done with vectors: pure functions on arrays; the best known are imported from here when asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omnivec.tasks.calibration import rank_together
    from omnivec.tasks.correlation import spearman
    from omnivec.tasks.keys import most_similar, odd_one_out
    from omnivec.tasks.labels import zero_shot

__all__ = ["most_similar", "odd_one_out", "rank_together", "spearman", "zero_shot"]

_PLACES = {
    "most_similar": "keys",
    "odd_one_out": "keys",
    "rank_together": "calibration",
    "spearman": "correlation",
    "zero_shot": "labels",
}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        import importlib

        return getattr(importlib.import_module(f"omnivec.tasks.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'omnivec.tasks' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
