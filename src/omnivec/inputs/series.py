"""The modality of time series, measured in values: Series(values, times)."""

from __future__ import annotations

from typing import Any

from omnivec.inputs.modality import Modality
from omnivec.types import Series


def _accepts(item: Any) -> bool:
    return isinstance(item, Series)


MODALITY = Modality(
    name="series",
    one="a series",
    plural="series",
    given="Series(values)",
    unit="values",
    rank=4,
    accepts=_accepts,
    span_unit="values",
)
