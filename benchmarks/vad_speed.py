"""Silero VAD: seconds of sound per CPU second, on one core, and how much speech it finds.

    python benchmarks/vad_speed.py [--seconds 600]

LibriSpeech recordings are joined to a recording of this length, which is read from samples in memory, so that decoding
does not count: `omnivec.tasks.speech` in one process with one thread, beside the package's own graph for whole
recordings on OpenVINO, in calls of 512 frames as the package makes them. They are measured in turns; the figure is the
best of three. The share of speech is of these recordings, and of ESC-10's rain, sea waves and helicopters.

Writes results/vad_speed.csv. Data: librispeech_other_sub and esc10 in ../shared/data or OMNIVEC_TEST_DATA.
"""

from __future__ import annotations

import argparse
import io
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import soundfile

import machine
import omnivec
from omnivec.tasks.speech import FRAME, MODEL, RATE, SpeechFinder
from omnivec.types import Audio, Floats

OTHER = ("Rain", "Sea waves", "Helicopter")
CALL = 512
"""Frames of a call of the package's graph."""


def recordings(archive: str, wanted: Callable[[str], bool]) -> list[Audio]:
    """The sounds of an archive whose names are wanted."""
    path = machine.data(*archive.split("/"))
    if path is None:
        sys.exit(f"{archive} is not in the data folder; OMNIVEC_TEST_DATA names another place")
    with zipfile.ZipFile(path) as files:
        names = sorted(name for name in files.namelist() if wanted(name))
        return [Audio(*soundfile.read(io.BytesIO(files.read(name)), dtype="float32")) for name in names]


def graph(folder: Path) -> Callable[[Floats], Floats]:
    """The package's own graph on one thread of OpenVINO: samples at 16 kHz -> a probability for each frame."""
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "1", "NUM_STREAMS": "1"}
    core = openvino.Core()
    run = core.compile_model(core.read_model(folder / "silero_vad_16k_sequence.onnx"), "CPU", hints)

    def probabilities(samples: Floats) -> Floats:
        count = -(-len(samples) // FRAME)
        padded = np.zeros(64 + count * FRAME, np.float32)
        padded[64 : 64 + len(samples)] = samples
        rows = np.lib.stride_tricks.sliding_window_view(padded, 64 + FRAME)[::FRAME]
        h = c = np.zeros((1, 1, 128), np.float32)
        found = []
        for start in range(0, count, CALL):
            shares, h, c = run({"input": rows[start : start + CALL], "h": h, "c": c}).values()
            h, c = (state.reshape(1, 1, 128).copy() for state in (h, c))
            found.append(shares.copy())
        return np.concatenate(found)

    return probabilities


def share(finder: SpeechFinder, sounds: list[Audio]) -> float:
    """The share of speech in percent."""
    found = sum(float(np.diff(finder.spans(sound), axis=1).sum()) for sound in sounds)
    return 100 * found / sum(len(sound.samples) / sound.rate for sound in sounds)


def main() -> None:
    """Measures, prints and writes the CSV."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--output", type=Path, default=machine.RESULTS / "vad_speed.csv")
    given = parser.parse_args()
    speech = recordings("librispeech_other_sub/flac.zip", lambda name: name.endswith(".flac"))
    other = recordings(
        "esc10/audio.zip", lambda name: any(kind in name and name.endswith(".ogg") for kind in OTHER)
    )
    joined = np.resize(np.concatenate([sound.samples for sound in speech]), given.seconds * RATE)
    model = omnivec.load(MODEL, precision="float32", threads=1)
    finder, package = SpeechFinder(model), graph(model.folder)
    calls: dict[str, Callable[[], Floats]] = {
        "omnivec": lambda: finder.probabilities(Audio(joined, RATE)),
        "the package's graph on OpenVINO": lambda: package(joined),
    }
    spent: dict[str, list[float]] = {name: [] for name in calls}
    results: dict[str, Floats] = {}
    for _, name in machine.in_turns(list(calls), 3):
        results[name], took = machine.spent(calls[name])
        spent[name].append(took.cpu)
    first, second = results.values()
    rows: list[dict[str, Any]] = [
        {
            "what": name,
            "sound_s": given.seconds,
            "cpu_s": machine.significant(min(times), 3),
            "times_real_time": round(given.seconds / min(times)),
            "largest_difference": f"{float(np.abs(first - second).max()):.1e}",
        }
        for name, times in spent.items()
    ]
    rows += [
        {"what": "share of speech in %, LibriSpeech", "value": round(share(finder, speech), 1)},
        {
            "what": f"share of speech in %, ESC-10: {', '.join(OTHER).lower()}",
            "value": round(share(finder, other), 1),
        },
    ]
    for row in rows:
        print(row)
    machine.write_csv(given.output, rows, threads=1)


if __name__ == "__main__":
    main()
