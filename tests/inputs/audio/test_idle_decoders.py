"""Decoders that stay open between the parts of a file: opened once, and the samples are the same."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from omnivec.inputs.audio import decoding
from omnivec.inputs.audio import sound as sound_module
from omnivec.inputs.audio.idle_decoders import IdleDecoders
from omnivec.inputs.audio.sound import part, read_sound, samples
from sounds import encoded, melody


def test_late_parts_of_an_mp3_file_share_a_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound_module, "_LATE", 10.0)
    file = tmp_path / "long.mp3"
    file.write_bytes(encoded(melody(40.0, 44_100, 1), 44_100, "MP3"))
    sound = read_sound(file)
    whole, early = samples(sound, 16_000), samples(part(sound, 0, 5), 16_000)
    decoding._IDLE.close()
    opened = []
    right = decoding._open
    monkeypatch.setattr(decoding, "_open", lambda source: opened.append(source) or right(source))
    for start in (30, 10, 20, 15, 35):
        got = samples(part(sound, start, start + 5), 16_000)
        np.testing.assert_allclose(got, whole[start * 16_000 : (start + 5) * 16_000], atol=1e-6)
    assert len(opened) == 1
    for _ in range(2):  # from the start, each decoder is a new one, and the samples are the same to the bit
        np.testing.assert_array_equal(samples(sound, 16_000), whole)
        np.testing.assert_array_equal(samples(part(sound, 0, 5), 16_000), early)
    file.write_bytes(encoded(melody(40.0, 44_100, 1, seed=1), 44_100, "MP3"))
    os.utime(file, ns=(1, 1))
    changed = read_sound(file)
    expected = samples(changed, 16_000)[30 * 16_000 : 35 * 16_000]
    np.testing.assert_allclose(samples(part(changed, 30, 35), 16_000), expected, atol=1e-6)


def test_the_oldest_is_closed_and_a_failed_one_is_not_kept(tmp_path: Path) -> None:
    closed: list[str] = []
    idle: IdleDecoders[str] = IdleDecoders(2)
    for name in "abc":
        stack = ExitStack()
        stack.callback(closed.append, name)
        idle.give(name, stack, name)
    assert closed == ["a"] and idle.take("a") is None
    taken = idle.take("b")
    assert taken is not None and taken[1] == "b" and idle.take("b") is None
    idle.close()
    assert closed == ["a", "c"]
    file = tmp_path / "a.mp3"
    file.write_bytes(encoded(melody(2.0, 44_100, 1), 44_100, "MP3"))
    decoding._IDLE.close()
    with pytest.raises(ZeroDivisionError), decoding.open_sound(file, reuse=True):
        raise ZeroDivisionError
    assert decoding._IDLE.take(decoding._version(file)) is None
