"""Pure functions on arrays of vectors; the names in `__all__` are imported at their first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omnivec.vectors.analogies import most_similar, odd_one_out
    from omnivec.vectors.calibration import rank_together
    from omnivec.vectors.correlation import spearman
    from omnivec.vectors.labels import zero_shot
    from omnivec.vectors.probes import AutoProbe, KNearest, LogisticProbe, NearestCentroid
    from omnivec.vectors.uncertainty import most_uncertain

__all__ = [
    "AutoProbe",
    "KNearest",
    "LogisticProbe",
    "NearestCentroid",
    "most_similar",
    "most_uncertain",
    "odd_one_out",
    "rank_together",
    "spearman",
    "zero_shot",
]

_PLACES = {
    "AutoProbe": "probes",
    "KNearest": "probes",
    "LogisticProbe": "probes",
    "NearestCentroid": "probes",
    "most_uncertain": "uncertainty",
    "most_similar": "analogies",
    "odd_one_out": "analogies",
    "rank_together": "calibration",
    "spearman": "correlation",
    "zero_shot": "labels",
}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        import importlib

        return getattr(importlib.import_module(f"omnivec.vectors.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'omnivec.vectors' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
