"""The passages of a sound with speech: one for each segment, and windows of what is between."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from omnivec.inputs.audio.features import Waveform
from omnivec.inputs.audio.processing import SoundProcessing
from omnivec.inputs.audio.recording import spoken
from omnivec.types import Segment

TEN = SoundProcessing(rate=16_000, features=Waveform(), seconds=10.0)


def test_the_example_of_the_docstring() -> None:
    segments = [Segment(2.0, 3.5, "Good morning."), Segment(4.0, 6.0, "Let us begin.")]
    assert spoken(30.0, segments, TEN) == [
        (0, 2, ""),
        (2, 4, "Good morning."),
        (4, 6, "Let us begin."),
        (6, 16, ""),
        (16, 26, ""),
        (26, 30, ""),
    ]


def test_odd_segments() -> None:
    assert spoken(5.0, [], TEN) == [(0, 5, "")]
    assert spoken(5.0, [Segment(0.2, 4.8, " Hello. "), Segment(4.9, 4.9, "  ")], TEN) == [(0, 5, "Hello.")]
    assert spoken(0.3, [Segment(0, 0.3, "Yes.")], TEN) == [(0, 0.3, "Yes.")]
    assert spoken(25.0, [Segment(0, 25, "A long one.")], TEN) == [
        (0, 10, "A long one."),
        (10, 20, ""),
        (20, 25, ""),
    ]
    # a segment beyond the end, which a model may imagine
    assert spoken(3.0, [Segment(0, 2.9, "Here."), Segment(7, 9, "Nowhere.")], TEN)[0] == (0, 2.9, "Here.")


times = st.lists(st.floats(0, 60), min_size=0, max_size=12).map(sorted)


@given(seconds=st.floats(0.6, 60), marks=times)
def test_passages_follow_each_other_and_are_read_whole(seconds: float, marks: list[float]) -> None:
    segments = [Segment(a, b, f"words {i}") for i, (a, b) in enumerate(pairwise(marks))]
    spans = spoken(seconds, segments, TEN)
    assert spans[0][0] == 0
    assert all(0 <= start < end <= seconds + 1e-6 and end - start <= 10.001 for start, end, _ in spans)
    starts = [start for start, _, _ in spans]
    assert starts == sorted(starts)
    told = [text for _, _, text in spans if text]
    assert told == [s.text for s in segments if s.text in told]
