"""Where in its document a hit is, in minutes and seconds."""

from __future__ import annotations

import pytest

from omnivec.types import Hit
from omnivec.viewer.extents import clock, extent


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (65.9, "1:05"), (599, "9:59"), (3600, "1:00:00"), (7265.2, "2:01:05")]
)
def test_a_time_is_shown_as_on_a_clock(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


@pytest.mark.parametrize(
    ("span", "unit", "seconds", "shown"),
    [
        ((80, 90), "seconds", 200.0, "1:20-1:30"),
        ((0, 10), "seconds", 200.0, "0:00-0:10"),
        ((0, 10), "seconds", 10.2, ""),  # the whole document
        ((10, 20), "seconds", None, "0:10-0:20"),
        ((10, 20), "characters", 200.0, ""),
        ((0, 0), "", None, ""),
    ],
)
def test_only_parts_in_seconds_have_an_extent(
    span: tuple[float, float], unit: str, seconds: float | None, shown: str
) -> None:
    metadata = {} if seconds is None else {"seconds": seconds}
    hit = Hit("a#0", "a", span, None, "audio", "audio", 0.5, "", metadata, span_unit=unit)
    assert extent(hit) == shown
