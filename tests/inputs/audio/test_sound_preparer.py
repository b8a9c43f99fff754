"""The preparer of sounds: windows, truncation, what is read and lost, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

import omnivec
from omnivec import Audio, ItemError, ItemErrors
from omnivec.errors import ModelError
from omnivec.inputs.audio.preparer import SoundPreparer, front_end_settings, windows
from omnivec.inputs.audio.processing import Short, SoundProcessing
from omnivec.inputs.preparer import PLAIN, ReadOptions
from omnivec.types import Floats, Prepared, Truncate
from sounds import noise, speechlike, tone

RATE = 1000


@dataclass(frozen=True)
class Plain:
    """The samples themselves, ten to a row."""

    @property
    def rows(self) -> tuple[int, ...]:
        return (10,)

    def count(self, samples: int) -> int:
        return samples // 10

    def __call__(self, samples: Floats) -> Floats:
        return samples[: len(samples) // 10 * 10].reshape(-1, 10)


TWO_SECONDS = SoundProcessing(
    rate=RATE, features=Plain(), seconds=2.0, shortest=100, states=lambda rows: rows
)


@given(seconds=st.floats(0.01, 500))
def test_windows_cover_a_sound_and_none_is_longer_than_the_model_reads(seconds: float) -> None:
    extents = windows(seconds, TWO_SECONDS)
    assert extents[0][0] == 0 and extents[-1][1] == pytest.approx(seconds, abs=1e-3)
    for start, end in extents:
        assert 0 <= start < end <= seconds + 1e-3 and end - start <= 2.0 + 1e-3
    for (_, end), (start, _) in pairwise(extents):
        assert start <= end + 1e-9
    if len(extents) > 1:
        assert all(end - start >= 0.2 - 1e-6 for start, end in extents)


@pytest.mark.parametrize(
    ("seconds", "rows", "budget"), [(2.0, 200, 6000), (10.0, 1000, 6000), (90.0, 9000, 9000)]
)
def test_a_batch_holds_a_minute_or_one_sound(seconds: float, rows: int, budget: int) -> None:
    preparer = SoundPreparer(replace(TWO_SECONDS, rate=1000, seconds=seconds))
    assert (preparer.largest, preparer.budget) == (rows, budget)


def test_a_model_says_how_many_seconds_make_a_batch() -> None:
    preparer = SoundPreparer(replace(TWO_SECONDS, rate=1000, seconds=30.0, batch=10.0))
    assert (preparer.largest, preparer.budget) == (3000, 1000)


@dataclass(frozen=True)
class Fixed(Plain):
    """Three rows for any sound."""

    def count(self, samples: int) -> int:
        return 3


def test_a_batch_holds_a_minute_of_sounds_that_all_have_as_many_rows() -> None:
    preparer = SoundPreparer(replace(TWO_SECONDS, features=Fixed()))
    assert preparer.budget // preparer.largest == 30


def test_arrays_have_a_fixed_shape_if_all_sounds_have_as_many_rows() -> None:
    preparer = SoundPreparer(replace(TWO_SECONDS, features=Fixed(), states=lambda rows: 2 * rows))
    assert [array.shape for array in preparer.inputs] == [(None, 3, 10), (None,), (None, 6)]
    padded = SoundPreparer(replace(TWO_SECONDS, padded=200))
    assert [array.shape for array in padded.inputs] == [(None, 200, 10), (None,), (None, 200)]
    free = SoundPreparer(TWO_SECONDS)
    assert [array.shape for array in free.inputs] == [(None, None, 10), (None,), (None, None)]


def test_settings_are_found_where_transformers_finds_them(tmp_path: Path) -> None:
    assert front_end_settings(tmp_path) == {}
    (tmp_path / "preprocessor_config.json").write_text('{"sampling_rate": 1}')
    assert front_end_settings(tmp_path) == {"sampling_rate": 1}
    (tmp_path / "processor_config.json").write_text('{"processor_class": "ClapProcessor"}')
    assert front_end_settings(tmp_path) == {"sampling_rate": 1}
    for rate, key in enumerate(("audio_processor", "feature_extractor"), 2):
        (tmp_path / "processor_config.json").write_text(f'{{"{key}": {{"sampling_rate": {rate}}}}}')
        assert front_end_settings(tmp_path) == {"sampling_rate": rate}
    (tmp_path / "processor_config.json").write_text('{"feature_extractor": 3}')
    with pytest.raises(ModelError, match="feature_extractor is 3"):
        front_end_settings(tmp_path)


def test_the_windows_of_the_docstring() -> None:
    ten = replace(TWO_SECONDS, seconds=10.0)
    assert windows(34.0, ten) == [(0, 10), (10, 20), (20, 30), (30, 34)]
    assert windows(30.4, ten) == [(0, 10), (10, 20), (20, 30), (pytest.approx(20.4), 30.4)]
    assert windows(10.0004, ten) == [(0.0, 10.0004)]


def outcome(
    sound: Audio, reading: ReadOptions = PLAIN, processing: SoundProcessing = TWO_SECONDS
) -> tuple[Prepared, ...] | ItemError:
    preparer = SoundPreparer(processing)
    [parts] = preparer.prepare([preparer.decode(sound)], reading)
    return parts


def prepared(
    sound: Audio, reading: ReadOptions = PLAIN, processing: SoundProcessing = TWO_SECONDS
) -> tuple[Prepared, ...]:
    parts = outcome(sound, reading, processing)
    assert not isinstance(parts, ItemError)
    return parts


def why_refused(sound: Audio, reading: ReadOptions = PLAIN) -> str:
    error = outcome(sound, reading)
    assert isinstance(error, ItemError)
    return str(error)


def test_what_is_cut_off_is_counted_in_seconds() -> None:
    ramp = Audio(np.linspace(0, 1, 5 * RATE, dtype=np.float32), RATE)
    ends: tuple[tuple[Truncate | None, float], ...] = ((None, 0.0), ("tail", 0.0), ("head", 0.6))
    for truncate, first in ends:
        [part] = prepared(ramp, ReadOptions(truncate=truncate))
        assert (part.seen, part.lost) == (2.0, 3.0)
        assert part.arrays["sound"].shape == (200, 10)
        assert part.arrays["sound"][0, 0] == pytest.approx(first, abs=1e-3)
    assert "lasts 5.000 s, over the model's limit of 2 s" in why_refused(ramp, ReadOptions(truncate="error"))
    pooled = prepared(ramp, ReadOptions(chunk="pool"))
    assert [part.seen for part in pooled] == [2.0, 2.0, 1.0]


def test_a_front_end_that_reads_long_sounds_at_once_gets_them_whole() -> None:
    whole = replace(TWO_SECONDS, whole=4.0)
    ramp = Audio(np.linspace(0, 1, 5 * RATE, dtype=np.float32), RATE)
    four = Audio(ramp.samples[: 4 * RATE], RATE)
    for reading in (PLAIN, ReadOptions(truncate="head"), ReadOptions(truncate="error")):
        [part] = prepared(four, reading, whole)
        assert (part.seen, part.lost, len(part.arrays["sound"])) == (4.0, 0, 400)
    [first], [last] = (prepared(ramp, reading, whole) for reading in (PLAIN, ReadOptions(truncate="head")))
    assert {(part.seen, part.lost, len(part.arrays["sound"])) for part in (first, last)} == {(4.0, 1.0, 400)}
    assert last.arrays["sound"][0, 0] == pytest.approx(0.2, abs=1e-3)
    refused = outcome(ramp, ReadOptions(truncate="error"), whole)
    assert "lasts 5.000 s, over the model's limit of 4 s" in str(refused)
    assert [part.seen for part in prepared(ramp, ReadOptions(chunk="pool"), whole)] == [2.0, 2.0, 1.0]
    assert (SoundPreparer(whole).limit, SoundPreparer(whole).largest) == (2.0, 400)
    assert whole.identity["whole"] == 4.0 and "whole" not in TWO_SECONDS.identity


def test_windows_of_a_long_sound_are_decoded_when_they_are_collated() -> None:
    preparer = SoundPreparer(TWO_SECONDS)
    parts = prepared(Audio(np.linspace(0, 1, 20 * RATE, dtype=np.float32), RATE), ReadOptions(chunk="pool"))
    assert len(parts) == 10
    arrays = preparer.collate([parts[9], parts[0]])
    assert arrays["sound"].shape == (2, 200, 10) and arrays["lengths"].tolist() == [200, 200]
    assert arrays["sound"][:, 0, 0] == pytest.approx([0.9, 0.0], abs=1e-3)


@pytest.mark.parametrize(("short", "expected"), [("zeros", [5, 0]), ("repeat", [5, 5])])
def test_a_short_sound_is_filled(short: Short, expected: list[int]) -> None:
    five = Audio(np.full(50, 0.5, np.float32), RATE)
    filling = replace(TWO_SECONDS, short=short)
    [part] = prepared(five, PLAIN, filling)
    rows = part.arrays["sound"]
    assert rows.shape == (10, 10) and (10 * rows[[0, 9], 0]).tolist() == expected
    assert part.seen == 0.05
    assert "lasts 0.050 s (50 samples at 1,000 Hz), but the model needs 0.100 s (100 samples)" in why_refused(
        five
    )


def test_padding_is_masked() -> None:
    preparer = SoundPreparer(replace(TWO_SECONDS, padded=150))
    rows = [prepared(Audio(noise(seconds, RATE), RATE))[0] for seconds in (0.5, 1.0)]
    arrays = preparer.collate(rows)
    assert arrays["sound"].shape == (2, 150, 10) and arrays["lengths"].tolist() == [50, 100]
    assert arrays["mask"].sum(1).tolist() == [50, 100]
    assert not arrays["sound"][0, 50:].any()
    assert preparer.collate([rows[0]])["sound"].shape == (1, 150, 10)


def test_a_rate_is_never_assumed(tmp_path: Path) -> None:
    model = omnivec.load("mfcc")
    with pytest.raises(omnivec.UsageError, match="contains no items"):
        model.encode(tone(440, 1.0))
    [why] = model.run([tone(440, 1.0)]).failures.values()
    assert "a rate is never assumed: give Audio(samples, rate)" in why
    # the same samples at another rate are another sound
    pair = model.encode([Audio(tone(440, 1.0, 22_050), 22_050), Audio(tone(440, 1.0, 22_050), 16_000)])
    assert np.linalg.norm(pair[0] - pair[1]) > 10


def test_one_bad_sound_costs_only_itself(tmp_path: Path) -> None:
    good = tmp_path / "good.wav"
    soundfile.write(good, speechlike(1.0), 16_000)
    (tmp_path / "broken.wav").write_bytes(good.read_bytes()[:30])
    (tmp_path / "text.wav").write_text("this is no sound")
    (tmp_path / "empty.wav").write_bytes(b"")
    nan = np.zeros(1000, np.float32)
    nan[700] = np.nan
    items = [
        good,
        tmp_path / "broken.wav",
        tmp_path / "text.wav",
        tmp_path / "empty.wav",
        Audio(nan, 8000),
        good,
    ]
    model = omnivec.load("mfcc")
    with pytest.raises(ItemErrors) as caught:
        model.encode(items)
    assert sorted(caught.value.failures) == [1, 2, 3, 4]
    assert all("\n" not in why for why in caught.value.failures.values())
    np.testing.assert_array_equal(caught.value.partial.vectors[0], model.encode(good))


def test_pooled_windows_are_weighted_by_their_length() -> None:
    model = omnivec.load("mfcc")
    sound = Audio(speechlike(25.0, 22_050, seed=4), 22_050)
    cut = [
        Audio(sound.samples[start * 22_050 : end * 22_050], 22_050)
        for start, end in ((0, 10), (10, 20), (20, 25))
    ]
    parts = model.encode(cut)
    expected = (10 * parts[0] + 10 * parts[1] + 5 * parts[2]) / 25
    encoded = model.run(sound, chunk="pool")
    np.testing.assert_allclose(encoded.vectors[0], expected, atol=1e-3)
    assert encoded.seen.tolist() == [25.0] and encoded.lost.tolist() == [0.0] and encoded.unit == "seconds"
