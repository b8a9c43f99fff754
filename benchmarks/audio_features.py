"""Front ends of sound: omnivec against the libraries that published them, in CPU seconds, interleaved.

    python benchmarks/audio_features.py [--quick] [--repetitions 9] [--out FILE.csv]

The sound is made here: harmonics and pauses over noise, of 60 s and of 5 s at the rate of each front end; models that
read 30 s or 10 s get as much. CPU seconds are those of all threads of this process; each side runs with its defaults,
and again with one thread in its BLAS (`--threads`). The rows of both must agree within 1e-2.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import machine
from machine import significant
from omnivec.inputs.audio import features
from omnivec.inputs.audio.features import settings

Rows = NDArray[Any]
Call = Callable[[Rows], Rows]

DURATIONS = (60, 5)
OURS = "omnivec"


def sound(seconds: float, rate: int) -> Rows:
    """Mono (n,): harmonics whose pitch and loudness vary, with pauses, over noise."""
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * (150 * time + 4 * np.sin(3 * time))
    voice = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 20))
    loudness = np.clip(np.sin(2 * np.pi * 1.3 * time), 0, 1)
    noise = np.random.default_rng(0).standard_normal(len(time))
    return np.asarray(0.2 * loudness * voice + 0.003 * noise, np.float32)


def librosa_mfcc(rate: int, **options: Any) -> Call:
    """`librosa.feature.mfcc`."""
    import librosa

    return lambda samples: librosa.feature.mfcc(y=samples, sr=rate, **options).T


def kaldi_fbank(samples: Rows) -> Rows:
    """kaldi-native-fbank with 80 bands; samples are 16-bit integers there."""
    import kaldi_native_fbank as kaldi

    options = kaldi.FbankOptions()
    options.frame_opts.dither, options.mel_opts.num_bins = 0, 80
    computer = kaldi.OnlineFbank(options)
    computer.accept_waveform(16000, samples * np.float32(32768))
    computer.input_finished()
    return np.array([computer.get_frame(i) for i in range(computer.num_frames_ready)])


def psf_mfcc(samples: Rows) -> Rows:
    """`python_speech_features.mfcc`."""
    import python_speech_features

    return np.asarray(python_speech_features.mfcc(samples * np.float32(32768)))


def extractor(kind: str, name: str, rate: int, **options: Any) -> Call:
    """A feature extractor of transformers."""
    import transformers

    made = getattr(transformers, kind)(**options)
    return lambda samples: np.asarray(made(samples, sampling_rate=rate, return_tensors="np")[name][0])


def front_ends() -> Mapping[str, tuple[int, int, str, Call, Call]]:
    """Name -> sampling rate, longest sound in seconds, the peer's name, ours, theirs."""
    speech = settings.librosa_mfcc(settings.librosa_mel(16000, length=400, hop=160, bands=80), 13)
    whisper = extractor("WhisperFeatureExtractor", "input_features", 16000)
    clap = extractor(
        "ClapFeatureExtractor", "input_features", 48000, truncation="rand_trunc", frequency_min=50
    )
    of_speech = {"n_fft": 400, "hop_length": 160, "n_mels": 80, "n_mfcc": 13}
    return {
        "MFCC 2048/512, 128 bands": (22050, 60, "librosa", features.LIBROSA_MFCC, librosa_mfcc(22050)),
        "MFCC 400/160, 80 bands": (16000, 60, "librosa", speech, librosa_mfcc(16000, **of_speech)),
        "Kaldi fbank": (16000, 60, "kaldi-native-fbank", settings.kaldi_fbank(80), kaldi_fbank),
        "MFCC, python_speech_features": (16000, 60, "python_speech_features", features.PSF_MFCC, psf_mfcc),
        "Whisper": (16000, 30, "transformers", features.WHISPER, lambda samples: whisper(samples).T),
        "CLAP": (48000, 10, "transformers", features.CLAP, lambda samples: clap(samples)[0]),
        "AST": (
            16000,
            10,
            "transformers",
            features.AST,
            extractor("ASTFeatureExtractor", "input_values", 16000),
        ),
    }


def repeated(call: Call, samples: Rows, times: int) -> None:
    """Calls several times: one call takes less than the clock can tell."""
    for _ in range(times):
        call(samples)


def measure(name: str, seconds: float, repetitions: int) -> dict[str, Any]:
    """The row of one front end and duration; a call of the clock reads 60 s of sound."""
    rate, longest, peer, ours, theirs = front_ends()[name]
    seconds = min(seconds, longest)
    samples, times = sound(seconds, rate), round(60 / seconds)
    calls = {OURS: ours, peer: theirs}
    found = {
        key: np.asarray(call(samples)) for key, call in calls.items()
    }  # the first calls are not measured
    spent: dict[str, list[float]] = {key: [] for key in calls}
    for _, key in machine.in_turns(list(calls), repetitions):
        _, took = machine.spent(partial(repeated, calls[key], samples, times))
        spent[key].append(took.cpu / times)
    ratios = [base / own for own, base in zip(spent[OURS], spent[peer], strict=True)]
    return {
        "front_end": name,
        "peer": peer,
        "seconds": seconds,
        "threads": os.environ.get("OPENBLAS_NUM_THREADS", "default"),
        "ours_cpu_ms": significant(1000 * statistics.median(spent[OURS]), 3),
        "peer_cpu_ms": significant(1000 * statistics.median(spent[peer]), 3),
        "peer_of_ours": significant(statistics.median(ratios), 3),
        "peer_of_ours_low": significant(min(ratios), 3),
        "peer_of_ours_high": significant(max(ratios), 3),
        "times_real": significant(seconds / statistics.median(spent[OURS]), 3),
        "most_difference": significant(float(np.abs(found[OURS] - found[peer]).max()), 2),
        "mean_difference": significant(float(np.abs(found[OURS] - found[peer]).mean()), 2),
    }


def with_threads(threads: str, arguments: list[str]) -> list[dict[str, str]]:
    """The rows of a process of its own, whose BLAS and torch have so many threads: it is read when they are loaded."""
    limits = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.csv"
        environment = os.environ | dict.fromkeys(limits, threads)
        command = [sys.executable, __file__, *arguments, "--threads", "as set", "--out", str(out)]
        subprocess.run(command, check=True, env=environment)
        return machine.read_csv(out)


def main() -> None:
    """Reads the arguments, measures, prints and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="only the short sounds, 2 repetitions")
    parser.add_argument("--repetitions", "--repeat", type=int, default=9)
    parser.add_argument("--threads", choices=("both", "as set"), default="both")
    parser.add_argument("--out", type=Path, default=machine.RESULTS / "audio_features.csv")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")  # of empty filters, and of modules that librosa imports
    repetitions = 2 if asked.quick else asked.repetitions
    rows: list[Mapping[str, Any]] = []
    for seconds in DURATIONS[1:] if asked.quick else DURATIONS:
        rows += [measure(name, seconds, repetitions) for name in front_ends()]
    wrong = [row for row in rows if row["most_difference"] > 1e-2]
    machine.print_table(rows, [name for name in rows[0] if not name.endswith(("low", "high"))])
    if asked.threads == "both":
        rows += with_threads("1", ["--quick"] if asked.quick else ["--repetitions", str(repetitions)])
    machine.write_csv(asked.out, rows)
    if wrong:
        raise SystemExit(f"rows differ by more than 1e-2: {wrong}")


if __name__ == "__main__":
    main()
