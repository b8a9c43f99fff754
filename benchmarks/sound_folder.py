"""Memory and time of indexing sounds: 1,000 clips of 0.05 s to 10 minutes, and one recording of four hours.

    python benchmarks/sound_folder.py [--model yamnet] [--clips 1000] [--hours 4]

The lengths of the clips are spread evenly on a logarithmic scale, and shuffled; they are WAV, FLAC, OGG and MP3 files
of tones and noise at 8 to 48 kHz, one and two channels. Each part runs in a process of its own, whose resident bytes
a thread reads every 5 ms. Memory is flat if the last quarter of the passages takes no more than the second.

Writes results/sound_folder.csv.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

import machine
import omnivec
from memory import Watch
from omnivec.ops.process import resident

MB = 1e6
KINDS = (("wav", 16_000, 1), ("flac", 44_100, 2), ("ogg", 48_000, 1), ("mp3", 22_050, 2), ("wav", 8_000, 1))
SHORTEST, LONGEST = 0.05, 600.0
_SECOND = 60


def write(path: Path, seconds: float, rate: int, channels: int, seed: int) -> None:
    """Writes tones and noise, a minute at a time."""
    rng = np.random.default_rng(seed)
    left = max(1, round(seconds * rate))
    with soundfile.SoundFile(path, "w", rate, channels) as file:
        while left:
            count = min(left, _SECOND * rate)
            time_ = np.arange(count) / rate
            tone = 0.3 * np.sin(2 * np.pi * rng.uniform(100, 3000) * time_)
            noise = rng.standard_normal((count, channels)) * 0.02
            for first in range(0, count, 65_536):
                file.write((tone[:, None] + noise)[first : first + 65_536].astype(np.float32))
            left -= count


def clips(folder: Path, count: int) -> float:
    """Writes the clips; their seconds together."""
    lengths = np.geomspace(SHORTEST, LONGEST, count)
    np.random.default_rng(0).shuffle(lengths)
    for i, seconds in enumerate(lengths.tolist()):
        kind, rate, channels = KINDS[i % len(KINDS)]
        write(folder / f"{i:04d}.{kind}", seconds, rate, channels, i)
    return float(lengths.sum())


def indexed(model: str, folder: Path) -> dict[str, Any]:
    """Indexes a folder; peaks of memory in MB, and CPU-seconds."""
    peaks: list[float] = []
    with Watch() as watch:
        before = resident() / MB
        with omnivec.Collection(folder / "sounds.omni", models={"audio": model}) as notes:
            begun = time.process_time()
            report = notes.sync(
                folder, on_event=lambda event: peaks.append(watch.lap()), show_progress_bar=False
            )
            spent = time.process_time() - begun
        peaks.append(watch.lap())
    quarter = max(1, len(peaks) // 4)
    return {
        "documents": report.new,
        "failed": len(report.failed),
        "passages": report.passages,
        "start_mb": round(before),
        "second_quarter_mb": round(max(peaks[quarter : 2 * quarter] or peaks)),
        "last_quarter_mb": round(max(peaks[-quarter:])),
        "cpu_s": round(spent, 1),
    }


def part(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """Writes the files of one part, and indexes them in a process of its own."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if name == "clips":
            seconds = clips(folder, given.clips)
        else:
            seconds = 3600.0 * given.hours
            write(folder / "long.wav", seconds, 16_000, 1, 0)
        command = [sys.executable, __file__, "--model", given.model, "--index", str(folder)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        row = json.loads(done.stdout.splitlines()[-1])
    return {"part": name, "model": given.model, "sound_s": round(seconds), **row}


def main() -> None:
    """Measures, prints a table and writes the CSV."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="yamnet")
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--hours", type=float, default=4.0)
    parser.add_argument("--index", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=machine.RESULTS / "sound_folder.csv")
    given = parser.parse_args()
    if given.index is not None:
        print(json.dumps(indexed(given.model, given.index)))
        return
    rows = [part(name, given) for name in ("clips", "recording")]
    machine.print_table(rows, list(rows[0]))
    machine.write_csv(given.output, rows, ("part", "model"))


if __name__ == "__main__":
    main()
