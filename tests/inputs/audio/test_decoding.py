"""Samples equal those of librosa; parts and blocks equal the whole; damaged files cost one line, never the process."""

from __future__ import annotations

import errno
import io
import os
import tracemalloc
import warnings
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

import sounds
from omnivec.errors import ItemError
from omnivec.inputs.audio.sound import blocks, examine, part, read_sound, samples
from omnivec.types import Audio
from omnivec.validation import reasons

RATES = (8000, 16000, 22050, 48000)

FEW_BITS = {"MP3 of few bits": ("CONSTANT", 0.999), "MP3 of variable rate": ("VARIABLE", 0.9)}
"""MP3 files in which frames refer far back; the first has no header with a duration."""

NAMES = [*sounds.KINDS, *FEW_BITS]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """A file of each format, 34 s long: more than are decoded before a position in the end of an OGG file."""
    folder = tmp_path_factory.mktemp("sounds")
    made = {name: folder / name for name in NAMES}
    for kind in sounds.KINDS:
        rate = sounds.rate_of(kind) // 2
        made[kind].write_bytes(sounds.encoded(sounds.melody(34, rate, 1), rate, kind))
    for name, (mode, level) in FEW_BITS.items():
        with soundfile.SoundFile(
            made[name], "w", 44100, 1, format="MP3", bitrate_mode=mode, compression_level=level
        ) as file:
            file.write(sounds.melody(34, 44100, 1))
    return made


def librosas(path: Path, rate: int) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of modules that Python 3.13 no longer has
        import librosa

        return librosa.load(path, sr=rate, res_type="soxr_hq")[0]


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_those_of_librosa(name, files):
    sound = read_sound(files[name])
    for rate in RATES:
        got, want = samples(sound, rate), librosas(files[name], rate)
        # librosa rounds the number of samples up in floating point: 44.1 to 48 kHz sometimes gives one more. It reads
        # as many samples as libsndfile estimates, and those after the last as zeros.
        assert len(got) <= len(want) <= (len(got) + 1 if name in sounds.KINDS else 1.01 * len(got))
        assert got.dtype == np.float32
        assert np.abs(got - want[: len(got)]).max() <= 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_parts_are_slices_of_the_whole(name, files):
    sound = read_sound(files[name])
    rng = np.random.default_rng(1)
    for rate in (16000, 48000):
        whole = samples(sound, rate)
        starts = [0, 0.5, 33.9, sound.seconds - 0.02, *rng.uniform(0, 33, 6)]
        for start in starts:
            end = start + rng.uniform(0.05, 3)
            got = samples(part(sound, start, end), rate)
            want = whole[round(start * rate) : round(end * rate)]
            assert len(got) == len(want)
            assert np.abs(got - want).max(initial=0) <= 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_blocks_are_the_whole(name, files):
    sound = read_sound(files[name])
    for rate, seconds in ((16000, 2.0), (44100, 0.37)):
        got = list(blocks(sound, rate, seconds))
        assert {len(block) for block in got[:-1]} == {round(seconds * rate)}
        assert np.abs(np.concatenate(got) - samples(sound, rate)).max() <= 1e-6
    piece = part(sound, 3, 9)
    assert np.array_equal(np.concatenate(list(blocks(piece, 16000, 1))), samples(piece, 16000))


def test_a_part_is_decoded_without_what_is_before_it(files, monkeypatch):
    """A part of two seconds reads a few seconds at most, wherever it is."""
    for name in ("WAV", "FLAC", "MP3", "Opus"):
        counts = []
        read = soundfile.SoundFile.read

        def counting(self, frames=-1, *args, counts=counts, read=read, **options):
            block = read(self, frames, *args, **options)
            counts.append(len(block) / self.samplerate)
            return block

        monkeypatch.setattr(soundfile.SoundFile, "read", counting)
        samples(part(read_sound(files[name]), 30, 32), 16000)
        monkeypatch.undo()
        assert sum(counts) < 3.2


def test_channels_are_averaged_of_any_number():
    for channels in (1, 2, 3, 6, 8):
        values = sounds.melody(0.2, 96000, channels)
        data = sounds.encoded(values, 96000, "WAV", "PCM_24")
        assert read_sound(data).channels == channels
        assert np.allclose(samples(read_sound(data), 96000), values.mean(1), atol=2**-22)


@pytest.mark.parametrize(
    "subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "MS_ADPCM"]
)
def test_every_kind_of_wav_is_scaled_to_one(subtype):
    values = sounds.melody(0.5, 16000, 1)[:, 0]
    got = samples(read_sound(sounds.encoded(values, 16000, "WAV", subtype)), 16000)
    bound = {"PCM_U8": 2**-7, "ULAW": 0.02, "MS_ADPCM": 0.2}.get(subtype, 2**-15)
    assert np.abs(got[: len(values)] - values).max() <= bound


def test_floats_in_a_file_must_be_finite_and_near_one():
    values = sounds.melody(1, 8000, 1)[:, 0]
    values[5000] = np.nan
    sound = read_sound(sounds.encoded(values, 8000, "WAV", "FLOAT"))
    with pytest.raises(ItemError, match=r"sample 5,000 \(0\.625 s\) is nan"):
        samples(sound, 16000)
    assert len(samples(part(sound, 0, 0.6), 8000)) == 4800
    values[5000] = 1.5  # more than full scale occurs
    assert samples(read_sound(sounds.encoded(values, 8000, "WAV", "FLOAT")), 8000)[5000] == 1.5
    loud = read_sound(sounds.encoded(values * 32768, 8000, "WAV", "FLOAT"))
    for decode in (examine, lambda sound: list(blocks(sound, 8000, 1))):
        with pytest.raises(ItemError, match="divide values of 16 bits by 32768"):
            decode(loud)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "MP3", "AIFF"])
def test_a_file_that_is_cut_off_is_named_with_its_durations(kind):
    data = sounds.encoded(sounds.melody(6, 44100), 44100, kind)
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(ItemError) as refused:
            samples(read_sound(data[: int(share * len(data))]), 16000)
        assert "6.0 s" in str(refused.value)
        assert "cut off" in str(refused.value)
    whole = samples(read_sound(data), 16000)
    if kind in ("FLAC", "MP3"):  # what is there can be used
        got = samples(part(read_sound(data[: int(0.9 * len(data))]), 0, 3), 16000)
        assert np.array_equal(got[:40000], whole[:40000])


def test_the_second_of_an_error_is_named():
    data = bytearray(sounds.encoded(sounds.melody(20, 44100), 44100, "FLAC"))
    place = 3 * len(data) // 4
    data[place : place + 50] = bytes(50)
    with pytest.raises(ItemError, match=r"damaged or cut off after 1[45]\.\d s of 20\.0 s"):
        samples(read_sound(bytes(data)), 16000)


def test_a_header_without_a_duration_is_no_obstacle():
    values = sounds.melody(2, 44100)
    flac = bytearray(sounds.encoded(values, 44100, "FLAC"))
    wav = bytearray(sounds.encoded(values, 44100, "WAV"))
    for total in (b"\0" * 4, b"\xff" * 4):  # 0 stands for unknown; 2 ** 36 - 1 is not believed
        flac[21] = flac[21] & 0xF0 | total[0] & 0x0F
        flac[22:26] = total
        sound = read_sound(bytes(flac))
        assert sound.seconds == 2
        assert len(samples(sound, 44100)) == len(values)
    wav[4:8] = wav[40:44] = b"\xff" * 4  # as a program writes that writes to a pipe
    assert read_sound(bytes(wav)).seconds == 2


def test_an_mp3_without_a_duration_is_counted_whatever_its_tags_hold(files):
    data = files["MP3 of few bits"].read_bytes()
    tag = b"ID3\x03\0\0\0\x10\0\0" + bytes(0x10 << 14)  # a picture of 256 KiB: 65 s of 32 kbit/s
    for tagged in (data, tag + data):
        assert read_sound(tagged).seconds == pytest.approx(34, abs=0.1)
    assert np.array_equal(samples(read_sound(tag + data), 8000), samples(read_sound(data), 8000))


def test_a_header_that_declares_too_much_allocates_nothing():
    data = bytearray(sounds.encoded(sounds.melody(0.1, 8000), 8000, "WAV"))
    data[40:44] = (0x7FFF_0000).to_bytes(4, "little")
    tracemalloc.start()
    with pytest.raises(ItemError, match=r"lasts 0\.1 s, but its header says 67,?106\.\d s: cut off"):
        samples(read_sound(bytes(data)), 48000)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_four_hours_take_flat_memory(tmp_path):
    path = tmp_path / "long.wav"
    seconds, rate = 4 * 3600, 8000
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(b"\0\0")
    with path.open("r+b") as raw:  # a sparse file: zeros that take no place on the disk
        size = 2 * seconds * rate
        raw.seek(40)
        raw.write(size.to_bytes(4, "little"))
        raw.truncate(44 + size)
    sound = read_sound(path)
    assert (sound.seconds, sound.held) == (seconds, 0)
    tracemalloc.start()
    count = longest = 0
    for block in blocks(sound, 4000, 30):
        count += len(block)
        longest = max(longest, len(block))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (count, longest) == (seconds * 4000, 120_000)
    assert peak < 8 * 2**20
    end = samples(part(sound, seconds - 1, seconds), 16000)
    assert len(end) == 16000


def test_more_than_fits_is_refused_and_parts_are_not(monkeypatch):
    monkeypatch.setattr("omnivec.inputs.audio.sound.MAX_SAMPLES", 1000)
    sound = read_sound(Audio(np.zeros(2000), 8000))
    with pytest.raises(
        ItemError, match=r"2,000 samples at 8,000 Hz, over the limit of 1,000: cut it into parts"
    ):
        samples(sound, 8000)
    assert len(samples(sound, 8000, most=1500)) == 1500
    assert len(samples(part(sound, 0, 0.1), 8000)) == 800


SMALL = {
    kind: sounds.encoded(sounds.melody(0.3, sounds.rate_of(kind)), sounds.rate_of(kind), kind)
    for kind in sounds.KINDS
}


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_mutated_file_is_read_or_refused_in_one_line(data):
    kind = data.draw(st.sampled_from(sounds.KINDS))
    mutated = bytearray(SMALL[kind])
    # Most changes hit the header, where one byte can mean much.
    places = st.one_of(st.integers(0, 99), st.integers(0, len(mutated) - 1))
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=8)):
        mutated[place] = value
    end = data.draw(st.one_of(st.just(len(mutated)), st.integers(0, len(mutated))))
    try:
        sound = read_sound(bytes(mutated[:end]))
        got = samples(sound, 16000, most=160_000)
        assert np.isfinite(got).all()
    except ItemError as refused:
        assert "\n" not in str(refused)


def test_files_are_closed(files, tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(files["WAV"].read_bytes()[:1000])
    for _ in range(3):
        with pytest.raises(ItemError):
            read_sound(path)
    running = blocks(read_sound(files["WAV"]), 16000, 1)
    next(running)
    del running  # ResourceWarnings are errors in tests


def test_bytes_and_files_give_the_same(files):
    for name in NAMES:
        data = files[name].read_bytes()
        assert np.array_equal(samples(read_sound(data), 16000), samples(read_sound(files[name]), 16000))
        with io.BytesIO(data) as file:
            assert read_sound(data).rate == soundfile.info(file).samplerate


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE])
def test_what_the_system_refuses_is_said_by_its_cause(number, files, monkeypatch, tmp_path):
    """A drive that fails in the middle of a file is no damaged file."""
    path = tmp_path / "a.flac"
    path.write_bytes(files["FLAC"].read_bytes())
    sound = read_sound(path)

    class Failing(io.FileIO):
        def readinto(self, buffer):
            if self.tell() > 100_000:
                raise OSError(number, os.strerror(number))
            return super().readinto(buffer)

    monkeypatch.setattr("omnivec.inputs.audio.decoding.open_regular", lambda path, kind: Failing(path))
    with pytest.raises(ItemError) as refused:
        samples(sound, 16000)
    assert str(refused.value).startswith(f"{path}: {reasons.of_system(OSError(number, 'refused'))}")
