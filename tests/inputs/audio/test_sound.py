"""Sounds from files, bytes and arrays: their header, their parts, and each way in which one can be none."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import sounds
from omnivec.errors import ItemError
from omnivec.inputs import reading
from omnivec.inputs.audio.sound import blocks, examine, is_sound, part, read_sound, samples
from omnivec.types import Audio


def why(item, rate: int = 16000) -> str:
    """The line that says why an item is refused, by its header or its samples."""
    with pytest.raises(ItemError) as refused:
        samples(read_sound(item), rate)
    message = str(refused.value)
    assert "\n" not in message
    return message


@pytest.fixture(scope="module")
def wav() -> bytes:
    return sounds.encoded(sounds.melody(2.0, 44100), 44100, "WAV")


@pytest.mark.parametrize("kind", sounds.KINDS)
def test_a_header_is_read_whatever_the_file_is_called(kind, tmp_path):
    rate = sounds.rate_of(kind)
    data = sounds.encoded(sounds.melody(1.5, rate), rate, kind)
    path = tmp_path / "named.wrongly"
    path.write_bytes(data)
    sound = read_sound(path)
    assert (sound.rate, sound.channels, sound.format) == (rate, 2, kind)
    assert sound.seconds == pytest.approx(1.5, abs=0.06)
    assert is_sound(data[:64])
    assert np.array_equal(samples(sound, 16000), samples(read_sound(data), 16000))


def test_keys_are_equal_for_the_same_extent_of_the_same_file(wav, tmp_path):
    path, other = tmp_path / "a.wav", tmp_path / "b.wav"
    path.write_bytes(wav)
    other.write_bytes(wav)
    one = read_sound(path)
    assert one.key == read_sound(path).key != read_sound(other).key
    assert part(one, 0.5, 1).key == part(read_sound(path), 0.5, 1).key != part(one, 0.5, 1.1).key
    assert part(part(one, 0.5, 1.5), 0.25, 0.5).key == part(one, 0.75, 1).key
    assert read_sound(wav).key == read_sound(bytes(bytearray(wav))).key
    assert read_sound(Audio(np.zeros(9), 16000)).key is None
    assert (one.held, read_sound(wav).held) == (0, len(wav))
    assert read_sound(Audio(np.zeros(9, np.int16), 16000)).held == 18


def test_a_part_beyond_the_end_is_shorter_and_an_empty_one_is_refused(wav):
    sound = read_sound(wav)
    assert part(sound, 1.5, 99).seconds == pytest.approx(0.5)
    assert part(sound, 0, 99).key == sound.key
    for start, end in ((2, 3), (1, 1), (-1, 1), (float("nan"), 1)):
        with pytest.raises(ItemError, match=r"there is nothing from .* of 2\.000 s"):
            part(sound, start, end)


def test_arrays_are_taken_as_they_are_meant():
    floats = sounds.melody(0.1, 16000)
    got = samples(read_sound(Audio(floats, 16000)), 16000)
    assert np.allclose(got, floats.mean(1), atol=1e-7)
    for dtype, scale in ((np.int16, 2**15), (np.int32, 2**31), (">i2", 2**15)):
        whole = np.round(floats * scale).astype(dtype)
        assert np.allclose(samples(read_sound(Audio(whole, 16000)), 16000), got, atol=1 / scale + 1e-7)
    assert np.array_equal(samples(read_sound(Audio(floats[:, 0], 16000)), 16000), floats[:, 0])
    assert np.allclose(samples(read_sound(Audio(floats.astype(">f8"), 16000)), 16000), got, atol=1e-7)


@pytest.mark.parametrize(
    ("audio", "line"),
    [
        (Audio(np.zeros(9, np.uint8), 16000), r"uint8: give floats in \[-1, 1\], int16 or int32; 8 bits"),
        (Audio(np.zeros(9, np.int64), 16000), r"int64: .*16-bit values are samples\.astype\('int16'\)"),
        (Audio(np.zeros(9, complex), 16000), "complex128: .*convert them first"),
        (Audio(np.zeros(9), 0), "a sampling rate of 0 Hz: must be from 100 to 768,000 Hz"),
        (Audio(np.zeros(9), 16000.0), "its rate is 16000.0, a float: give"),  # type: ignore[arg-type]
        (Audio(np.zeros(9), True), "its rate is True: give"),
        (Audio(np.zeros(0), 16000), "has no samples .*its length is zero"),
        (Audio(np.zeros((2, 500)), 16000), r"500 channels of 2 samples: .*Audio\(samples\.T, rate\)"),
        (Audio(np.zeros((2, 2, 2)), 16000), r"shape \(2, 2, 2\): give \(n,\) or \(n, channels\)"),
        (Audio([0.0, 1.0], 16000), "samples are a list: give a NumPy array"),  # type: ignore[arg-type]
        (Audio(np.array([0, 1, np.nan, 0]), 1000), r"sample 2 \(0\.002 s\) is nan"),
        (Audio(np.array([[0, 0], [0, -np.inf]]), 1000), r"sample 1 \(0\.001 s\) is inf"),
        (
            Audio(np.array([0.5, 20000.0]), 1000),
            r"sample 1 .* is 20,000\.0, .*divide values of 16 bits by 32768",
        ),
    ],
)
def test_arrays_that_cannot_be_meant_are_refused_with_the_way_out(audio, line):
    with pytest.raises(ItemError, match=line):
        read_sound(audio)


def test_a_rate_is_never_assumed():
    assert "a rate is never assumed: give Audio(samples, rate)" in why(np.zeros(16000, np.float32))
    assert "a str is text" in why("a.wav")
    for other in (None, 3, [0.0, 1.0]):
        assert "give a pathlib.Path or Audio(samples, rate)" in why(other)


def test_what_is_no_sound_file_is_said_in_one_line(tmp_path):
    assert "empty (0 bytes)" in why(b"")
    raw = sounds.melody(1, 8000).astype(np.float16).tobytes()
    for data in (b"R", b"hello world " * 9, bytes(999), raw, "text in UTF-16".encode("utf-16")):
        assert "not a sound: it begins with" in why(data)
    assert "a folder" in why(tmp_path)
    assert "does not exist" in why(tmp_path / "none.wav")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no FIFOs")
def test_a_fifo_and_a_device_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "fifo.wav")
    for path in (tmp_path / "fifo.wav", Path("/dev/zero")):
        assert "not a regular file" in why(path)
    with pytest.raises(ItemError, match="not a regular file"):  # nor as a document, whose bytes are hashed
        reading.read(tmp_path / "fifo.wav")


def test_first_bytes_of_texts_and_images_are_no_sound():
    for head in ("\ufefftext".encode("utf-16-le"), b"\xff\xd8\xff\xe0", b"ID", b"RIFF0000WEBP", b"\xff" * 64):
        assert not is_sound(head.ljust(64, b"\0") if len(head) > 2 else head)


def test_blocks_are_the_whole_and_most_is_its_beginning(wav):
    sound = read_sound(wav)
    whole = samples(sound, 16000)
    pieces = list(blocks(sound, 16000, 0.3))
    assert [len(piece) for piece in pieces] == [4800] * 6 + [3200]
    assert np.array_equal(np.concatenate(pieces), whole)
    for most in (0, 1, 7777, 10**9):
        assert np.allclose(samples(sound, 16000, most=most), whole[:most], atol=1e-6)
        assert len(samples(sound, 16000, most=most)) == min(most, len(whole))


def test_findings_are_those_of_the_samples():
    rate = 8000
    tone = 0.5 * np.sin(2 * np.pi * 200 * np.arange(rate) / rate)
    found = examine(read_sound(Audio(tone, rate)))
    assert found.seconds == 1
    assert found.peak == pytest.approx(0.5, abs=1e-3)
    assert found.level == pytest.approx(20 * np.log10(0.5 / 2**0.5), abs=1e-3)
    assert (found.clipped, found.silent) == (0, False)
    clipped = np.clip(3 * tone, -1, 1)
    assert examine(read_sound(Audio(clipped, rate))).clipped == pytest.approx(
        (np.abs(clipped) == 1).mean(), abs=1e-3
    )
    assert examine(read_sound(Audio(np.zeros(rate), rate))).silent
    assert examine(read_sound(Audio(np.zeros(rate), rate))).level == -np.inf
    assert examine(read_sound(Audio(np.where(np.arange(rate) % 100 == 0, 1.0, 0), rate))).clipped == 0


def test_a_run_at_full_scale_is_counted_across_blocks(monkeypatch):
    values = np.zeros(100)
    values[4:9] = 1
    values[20:22] = 1
    values[40:75] = -1
    for size in (1, 2, 3, 5, 7, 1000):
        monkeypatch.setattr("omnivec.inputs.audio.sound._BLOCK", size)
        assert examine(read_sound(Audio(values, 8000))).clipped == 0.4


def test_several_threads_decode_at_the_same_time(tmp_path):
    paths = []
    for kind in ("WAV", "FLAC", "OGG", "MP3"):
        paths.append(tmp_path / kind)
        paths[-1].write_bytes(sounds.encoded(sounds.melody(1, 44100), 44100, kind))
    (tmp_path / "damaged").write_bytes(paths[1].read_bytes()[:9000])

    def decode(path: Path) -> np.ndarray | str:
        try:
            return samples(read_sound(path), 16000)
        except ItemError as refused:
            return str(refused)

    items = [*paths, tmp_path / "damaged"] * 10
    alone = [decode(path) for path in items[:5]]
    with ThreadPoolExecutor(8) as pool:
        for i, got in enumerate(pool.map(decode, items)):
            assert np.array_equal(got, alone[i % 5])
    assert "decoder lost sync" in alone[4]


@pytest.mark.parametrize("seconds", [1.0, 3.0, 0.5])
def test_a_file_that_is_changed_after_its_header_was_read_is_refused(seconds, tmp_path):
    path, other = tmp_path / "a.wav", tmp_path / "b.wav"
    path.write_bytes(sounds.encoded(sounds.tone(300, 3.0), 16_000))
    sound = read_sound(path)
    window = part(sound, 1.0, 2.0)
    other.write_bytes(sounds.encoded(sounds.tone(440, seconds), 16_000))
    other.replace(path)
    for decode in (lambda: samples(sound, 16_000), lambda: samples(window, 8_000), lambda: examine(sound)):
        with pytest.raises(ItemError, match=r"a\.wav: was changed while it was read"):
            decode()
    assert len(samples(read_sound(path), 16_000)) == seconds * 16_000


def test_a_file_that_is_changed_while_it_is_decoded_is_refused(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(sounds.encoded(sounds.tone(300, 3.0), 16_000))
    decoded = blocks(read_sound(path), 16_000, 0.5)
    next(decoded)
    with path.open("r+b") as file:
        file.truncate(20_000)
    with pytest.raises(ItemError, match=r"a\.wav: was changed while it was read"):
        list(decoded)


def test_bytes_that_only_begin_like_mp3_are_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "bad.mp3"
    path.write_bytes(b"\xff\xe4\x22\x79" + np.random.default_rng(1).bytes(4000))
    with pytest.raises(ItemError, match="no frame of MP3 is found"):
        read_sound(path)
