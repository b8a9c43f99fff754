"""Formats that PyAV decodes: equal to libsndfile where both decode, parts equal to the whole, one line for the rest."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

import sounds
from omnivec.errors import ItemError
from omnivec.inputs.audio.av_decoding import AvDecoder
from omnivec.inputs.audio.sound import blocks, is_sound, part, read_sound, samples

av = pytest.importorskip("av")
av_sounds = pytest.importorskip("av_sounds")

RATE = 48000
SECONDS = 16.01
"""More than what is decoded from the start for the sake of a part, and no multiple of a frame of AAC."""

MADE: dict[str, Callable[[np.ndarray], bytes]] = {
    "M4A": lambda x: av_sounds.encoded(x, RATE, "ipod", "aac"),
    "M4A to be streamed": lambda x: av_sounds.encoded(x, RATE, "ipod", "aac", movflags="faststart"),
    "WebM": lambda x: av_sounds.encoded(x, RATE, "webm", "libopus"),
    "WebM without durations": lambda x: av_sounds.encoded(x, RATE, "webm", "libopus", live="1"),
    "Matroska": lambda x: av_sounds.encoded(x, RATE, "matroska", "flac"),
    "AAC": lambda x: av_sounds.encoded(x, RATE, "adts", "aac"),
    "WMA": lambda x: av_sounds.encoded(x, RATE, "asf", "wmav2"),
    "MPEG-TS": lambda x: av_sounds.encoded(x, RATE, "mpegts", "aac"),
    "MPEG": lambda x: av_sounds.encoded(x, RATE, "mpeg", "mp2"),
    "MP4": lambda x: av_sounds.film(SECONDS, x, RATE),
}


@pytest.fixture(scope="module")
def melody() -> np.ndarray:
    return sounds.melody(SECONDS, RATE)


@pytest.fixture(scope="module")
def files(melody) -> dict[str, bytes]:
    return {name: make(melody) for name, make in MADE.items()}


def decoded(data: bytes) -> np.ndarray:
    """The mean of all channels as PyAV decodes them, in one go."""
    with av.open(io.BytesIO(data)) as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
        planar = next(iter(container.streams.audio)).codec_context.format.is_planar
    if not planar:
        frames = [frame.reshape(-1, 2).T for frame in frames]
    values = np.concatenate(frames, 1)
    return (values.astype(np.float32) / (32768 if values.dtype == np.int16 else 1)).mean(0)


@pytest.mark.parametrize("name", MADE)
def test_samples_are_those_that_pyav_decodes(name, files, melody):
    sound = read_sound(files[name])
    assert is_sound(files[name][:64]) == name.startswith(("M4A", "AAC"))  # the others may be films
    assert (sound.rate, sound.channels, sound.format) == (RATE, 2, name.partition(" ")[0])
    assert sound.seconds == pytest.approx(SECONDS, abs=0.08)
    got, want = samples(sound, RATE), decoded(files[name])
    if name.startswith(("M4A", "MP4")):
        assert len(got) == len(melody) < len(want)  # without the padding at the end of AAC
    else:
        assert len(got) == len(want)
    assert np.abs(got - want[: len(got)]).max() <= 1e-6
    lower, resampled = samples(sound, 16000), soxr.resample(want[: len(got)], RATE, 16000, "HQ")
    assert len(resampled) <= len(lower) <= len(resampled) + 1
    assert np.abs(lower[: len(resampled)] - resampled).max() <= 1e-6
    # The sound is where it was before it was encoded, to the sample: the encoder's delay is left out.
    if name.startswith(("M4A", "MP4", "WebM", "Matroska")):
        mean = melody.mean(1)
        by_shift = [np.dot(got[RATE : 2 * RATE], mean[RATE + n : 2 * RATE + n]) for n in range(-50, 51)]
        assert int(np.argmax(by_shift)) == 50


@pytest.mark.parametrize("name", MADE)
def test_parts_are_slices_of_the_whole(name, files):
    sound = read_sound(files[name])
    rng = np.random.default_rng(2)
    whole = samples(sound, 16000)
    for start in (0, 0.5, 9.99, 10.01, 15.9, *rng.uniform(10, 15, 4)):
        end = start + rng.uniform(0.05, 3)
        got, want = samples(part(sound, start, end), 16000), whole[round(start * 16000) : round(end * 16000)]
        assert len(got) == len(want)
        assert np.abs(got - want).max() <= 1e-6


@pytest.mark.parametrize("name", ["M4A", "WebM", "Matroska"])
def test_a_part_is_decoded_without_what_is_before_it(name, files, monkeypatch):
    counts = []
    following = AvDecoder._next

    def counting(self):
        frame = following(self)
        counts.append(0 if frame is None else frame.samples / RATE)
        return frame

    monkeypatch.setattr(AvDecoder, "_next", counting)
    samples(part(read_sound(files[name]), 14, 15), 16000)
    assert sum(counts) < 6  # Matroska can be entered every 5 s


def test_frames_of_changing_length_are_decoded_from_the_start():
    """Times of WebM are whole milliseconds, which do not tell the sample if frames differ in length."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        stream = output.add_stream("pcm_s16le", rate=44100)
        stream.layout = "mono"
        rng = np.random.default_rng(3)
        position = 0
        values = np.round(sounds.melody(14, 44100, 1)[:, 0] * 32767).astype(np.int16)
        while position < len(values):
            block = values[position : position + int(rng.integers(100, 3000))]
            frame = av.AudioFrame.from_ndarray(block[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts = 44100, position
            output.mux(stream.encode(frame))
            position += len(block)
        output.mux(stream.encode(None))
    sound = read_sound(file.getvalue())
    whole = samples(sound, 44100)
    assert np.array_equal(whole, values.astype(np.float32) / 32768)
    assert np.array_equal(samples(part(sound, 11, 13), 44100), whole[11 * 44100 : 13 * 44100])


def test_both_decoders_give_the_same_samples(melody):
    opus = sounds.encoded(melody[: 3 * RATE], RATE, "Opus")
    got, want = (samples(read_sound(data), 16000) for data in (av_sounds.remuxed(opus, "webm"), opus))
    assert np.abs(got - want).max() <= 1e-3  # libsndfile decodes Opus to 16 bits
    flac = sounds.encoded(melody[: 3 * RATE], RATE, "FLAC")
    got, want = (samples(read_sound(data), 16000) for data in (av_sounds.remuxed(flac, "matroska"), flac))
    assert np.abs(got - want).max() <= 1e-6


def test_codecs_that_libsndfile_does_not_have_are_decoded_in_its_containers(melody):
    data = av_sounds.encoded(melody, RATE, "ogg", "flac")
    sound = read_sound(data)
    assert sound.format == "OGG"
    assert np.abs(samples(sound, RATE) - melody.mean(1)).max() <= 2**-15


def test_blocks_are_the_whole(files):
    sound = read_sound(files["M4A"])
    assert np.array_equal(np.concatenate(list(blocks(sound, 16000, 0.7))), samples(sound, 16000))


def test_all_channels_are_averaged():
    values = sounds.melody(1, RATE, 6)
    sound = read_sound(av_sounds.encoded(values, RATE, "matroska", "flac"))
    assert sound.channels == 6
    assert np.abs(samples(sound, RATE) - values.mean(1)).max() <= 2**-14


def test_a_missing_extra_is_said_in_one_line(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ItemError) as refused:
        read_sound(files["M4A"], "song.m4a")
    assert str(refused.value) == "song.m4a: M4A is decoded with PyAV: pip install 'omnivec[video]'"
    with pytest.raises(ItemError, match=r"WebM is decoded with PyAV: pip install 'omnivec\[video\]'"):
        read_sound(files["WebM"])


def test_a_film_without_sound_is_refused():
    with pytest.raises(ItemError, match="MP4 without sound"):
        read_sound(av_sounds.film(0.4))


@pytest.mark.parametrize("name", ["M4A to be streamed", "WebM", "Matroska", "WMA"])
def test_a_file_that_is_cut_off_is_named_with_its_durations(name, files):
    data = files[name]
    with pytest.raises(ItemError, match=r"cut off"):
        samples(read_sound(data[: len(data) // 2]), 16000)
    if name != "WMA":
        with pytest.raises(ItemError, match=r"16\.0 s"):
            samples(read_sound(data[: len(data) // 2]), 16000)


def test_the_second_of_an_error_is_named(files):
    data = bytearray(files["M4A"])
    data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
    with pytest.raises(ItemError, match=r"damaged or cut off after \d\.\d s of 16\.0 s"):
        samples(read_sound(bytes(data)), 16000)


@pytest.mark.parametrize(
    "text", [b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", b"ffconcat version 1.0\nfile a.wav\n"]
)
def test_playlists_are_not_followed(text):
    with pytest.raises(ItemError, match="not a sound: it begins with"):
        read_sound(text)


SMALL = {
    name: make(sounds.melody(0.3, RATE)) for name, make in MADE.items() if " " not in name and name != "MP4"
}


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_mutated_file_is_read_or_refused_in_one_line(data):
    mutated = bytearray(SMALL[data.draw(st.sampled_from(sorted(SMALL)))])
    places = st.one_of(st.integers(0, 99), st.integers(0, len(mutated) - 1))
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=8)):
        mutated[place] = value
    end = data.draw(st.one_of(st.just(len(mutated)), st.integers(0, len(mutated))))
    try:
        assert np.isfinite(samples(read_sound(bytes(mutated[:end])), 16000, most=160_000)).all()
    except ItemError as refused:
        assert "\n" not in str(refused)
