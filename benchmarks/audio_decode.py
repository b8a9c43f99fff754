"""Decoding of sound files to mono at 16 kHz: omnivec against librosa, in CPU seconds, interleaved.

    python benchmarks/audio_decode.py [--quick] [--repetitions 7] [--out FILE.csv]

The files are made here, of 60 s and of 3 s, 44.1 kHz stereo (48 kHz for Opus and WebM). `omnivec` decodes a file at
once, `omnivec blocks` in blocks of 10 s. The samples of all must be equal within 1e-6. librosa does not read M4A and
WebM: their rows have no ratio.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import warnings
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import machine
from machine import significant
from omnivec.inputs.audio.sound import blocks, read_sound, samples

RATE = 16000
DURATIONS = (60, 3)
BASE, OURS, STREAM = "librosa", "omnivec", "omnivec blocks"
FORMATS = {
    "WAV": "PCM_16",
    "FLAC": "PCM_16",
    "AIFF": "PCM_16",
    "OGG": "VORBIS",
    "MP3": "MPEG_LAYER_III",
    "Opus": "OPUS",
}
OF_FFMPEG = {"M4A": ("ipod", "aac"), "WebM": ("webm", "libopus")}

Samples = NDArray[np.float32]


def melody(seconds: float, rate: int) -> Samples:
    """Stereo (n, 2): a rising and a trembling tone under noise."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).standard_normal((len(time), 2))
    rising, trembling = np.sin(2 * np.pi * (200 + 30 * time) * time), np.sin(2764 * time) * np.sin(3 * time)
    return np.asarray(0.3 * np.stack([rising, trembling], 1) + 0.05 * noise, np.float32)


def write(path: Path, kind: str, seconds: int) -> None:
    """Writes a file of a format, in blocks: libsndfile crashes on a minute of Vorbis at once."""
    import soundfile

    rate = 48000 if kind == "Opus" else 44100
    values = melody(seconds, rate)
    container = "OGG" if kind == "Opus" else kind
    with soundfile.SoundFile(path, "w", rate, 2, FORMATS[kind], format=container) as file:
        for start in range(0, len(values), 2**14):
            file.write(values[start : start + 2**14])


def write_by_ffmpeg(path: Path, kind: str, seconds: int) -> None:
    """Writes a file of a format that libsndfile does not have."""
    import av

    container, codec = OF_FFMPEG[kind]
    rate = 48000 if kind == "WebM" else 44100
    values = melody(seconds, rate)
    with av.open(path, "w", format=container) as output:
        stream: Any = output.add_stream(codec, rate=rate)
        stream.layout = "stereo"
        name = stream.codec_context.format.name
        if name == "s16":  # interleaved
            values = np.round(values * 32767)
        for start in range(0, len(values), 960):
            block = values[start : start + 960]
            flat = block.reshape(1, -1).astype(np.int16) if name == "s16" else np.ascontiguousarray(block.T)
            frame = av.AudioFrame.from_ndarray(flat, format=name, layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def by_librosa(path: Path) -> Samples:
    """What others call."""
    import librosa

    return np.asarray(librosa.load(path, sr=RATE, res_type="soxr_hq")[0])


def by_omnivec(path: Path) -> Samples:
    """The file at once."""
    return samples(read_sound(path), RATE)


def by_blocks(path: Path) -> Samples:
    """The file in blocks of 10 s."""
    return np.concatenate(list(blocks(read_sound(path), RATE, 10)))


def repeated(engine: Callable[[Path], Samples], path: Path, times: int) -> None:
    """Decodes a file several times: one short file takes less than the clock can tell."""
    for _ in range(times):
        engine(path)


def measure(path: Path, kind: str, seconds: int, repetitions: int) -> list[dict[str, Any]]:
    """The rows of one file; a call decodes as often as makes a minute."""
    engines: Mapping[str, Callable[[Path], Samples]] = {BASE: by_librosa, OURS: by_omnivec, STREAM: by_blocks}
    if kind in OF_FFMPEG:
        engines = {name: engine for name, engine in engines.items() if name != BASE}
    found = {name: engine(path) for name, engine in engines.items()}  # the first calls are not measured
    spent: dict[str, list[float]] = {name: [] for name in engines}
    for _, name in machine.in_turns(list(engines), repetitions):
        times = 60 // seconds
        _, took = machine.spent(partial(repeated, engines[name], path, times))
        spent[name].append(took.cpu / times)
    reference = found[next(iter(engines))]
    rows = []
    for name, cpu in spent.items():
        count = min(len(reference), len(found[name]))
        ratios = [own / base for own, base in zip(cpu, spent.get(BASE, []), strict=False)]
        rows.append(
            {
                "format": kind,
                "engine": name,
                "seconds": seconds,
                "cpu_s": significant(statistics.median(cpu), 3),
                "of_librosa": significant(statistics.median(ratios), 3) if ratios else "",
                "of_librosa_low": significant(min(ratios), 3) if ratios else "",
                "of_librosa_high": significant(max(ratios), 3) if ratios else "",
                "times_real": significant(seconds / statistics.median(cpu), 3),
                "most_difference": float(np.abs(reference[:count] - found[name][:count]).max()),
            }
        )
    return rows


def main() -> None:
    """Reads the arguments, measures, prints and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="only the short files, 2 repetitions")
    parser.add_argument("--repetitions", "--repeat", type=int, default=7)
    parser.add_argument("--out", type=Path, default=machine.RESULTS / "audio_decode.csv")
    asked = parser.parse_args()
    if asked.quick:
        asked.repetitions = 2
    warnings.simplefilter("ignore")  # of modules that librosa imports
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seconds, kind in product(DURATIONS[1:] if asked.quick else DURATIONS, (*FORMATS, *OF_FFMPEG)):
            path = Path(folder) / kind
            (write_by_ffmpeg if kind in OF_FFMPEG else write)(path, kind, seconds)
            rows += measure(path, kind, seconds, asked.repetitions)
    machine.print_table(rows, [name for name in rows[0] if not name.endswith(("low", "high"))])
    machine.write_csv(asked.out, rows)
    wrong = [row for row in rows if row["most_difference"] > 1e-6]
    if wrong:
        raise SystemExit(f"samples differ by more than 1e-6: {wrong}")


if __name__ == "__main__":
    main()
