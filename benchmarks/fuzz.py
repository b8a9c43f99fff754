"""Changes small sound files of every foreign form and reads them: nothing may crash, hang or take endless memory.

    python benchmarks/fuzz.py --seed 0 --count 600

Each mutation is one of bits flipped, a cut, a splice, an extreme number over some bytes or over some digits, another
JSON value, another member of a zip; it is drawn from the seed, the reader's name and its number alone, so that
`--only "GloVe" --first 17 --count 1 --keep DIR` makes number 17 again. A worker process reads the result with 3 GB of
address space. It has hung after 5 seconds of CPU, and is killed after a minute on the clock. Memory is too much above
20 times the file and 64 MiB, the ceilings that `omnivec.weights.bounds` states, of an image above the two canvases of
MAX_PIXELS that `omnivec.inputs.image.pixels` lets it promise, with 32 MiB for what the reader itself needs.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import re
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import machine
from fuzz_seeds import SEEDS
from omnivec.inputs.image.pixels import MAX_PIXELS
from omnivec.weights.bounds import FLOOR, TIMES

CPU_S, WALL_S = 5.0, 60.0
OWN = 32 << 20  # bytes that a reader takes for itself: modules, tables of its libraries, a compiled graph
CANVASES = 8 * MAX_PIXELS  # bytes: a frame and the one before it, 4 bytes a pixel
NUMBERS = (0, 1, 2, 3, 255, 256, 10**6, 2**15, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1)
DIGITS = (
    "0",
    "-1",
    "1",
    "7",
    "300",
    "65536",
    "1000000",
    "2147483648",
    "9" * 18,
    "9" * 30,
    "1e999",
    "nan",
    "1.5",
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 10**6, 2**31, 10**18, 10**30, 1e308, float("inf"), float("nan"), 0.5),
    *("", "x", "../../x", "\ud800", [], {}, [[]], [1, "a"], {"a": 1}, [None] * 100, "k" * 10_000),
)


def flipped(data: bytes, draw: random.Random) -> bytes:
    """One to eight bits changed."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 8))):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def cut(data: bytes, draw: random.Random) -> bytes:
    """Without its end, or without a piece inside."""
    begin = draw.randrange(len(data))
    return data[:begin] + (data[begin + draw.randrange(1, 64) :] if draw.random() < 0.5 else b"")


def spliced(data: bytes, draw: random.Random) -> bytes:
    """A piece of it put, or put again and again, at another place."""
    begin, at = draw.randrange(len(data)), draw.randrange(len(data))
    piece = data[begin : begin + draw.choice((1, 4, 16, 200))] * draw.choice((1, 1, 2, 500))
    return data[:at] + piece + data[at + draw.choice((0, len(piece))) :]


def numbered(data: bytes, draw: random.Random) -> bytes:
    """An extreme whole number over some bytes."""
    size, number = draw.choice((1, 2, 4, 4, 8, 8)), draw.choice(NUMBERS) * draw.choice((1, 1, -1))
    field = (number % (1 << 8 * size)).to_bytes(size, draw.choice(("little", "little", "big")))
    # Where a file begins it says how large it is.
    at = draw.randrange(min(len(data), 256) if draw.random() < 0.5 else len(data))
    return data[:at] + field + data[at + size :]


def written(data: bytes, draw: random.Random) -> bytes:
    """Another number in place of some digits."""
    runs = list(re.finditer(rb"\d+", data[: 1 << 16]))
    if not runs:
        return flipped(data, draw)
    run = draw.choice(runs)
    return data[: run.start()] + draw.choice(DIGITS).encode() + data[run.end() :]


def valued(data: bytes, draw: random.Random) -> bytes:
    """Another JSON value at some place: of a JSON file, or of the header of a safetensors file."""
    start = 0 if data[:1] in b"{[" else 8
    size = len(data) if not start else int.from_bytes(data[:8], "little")
    try:
        content = json.loads(data[start : start + size])
    except ValueError:
        return numbered(data, draw)
    places: list[tuple[Any, Any]] = []
    left = [content]
    while left:
        part = left.pop()
        keys = part.keys() if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ()
        places += [(part, key) for key in keys]
        left += [part[key] for key in keys]
    if not places:
        return flipped(data, draw)
    part, key = draw.choice(places)
    if draw.random() < 0.1:
        del part[key]
    elif draw.random() < 0.05:
        part[key] = "NESTED"
    else:
        part[key] = draw.choice(VALUES)
    text = json.dumps(content).replace('"NESTED"', "[" * 5000 + "]" * 5000).encode()
    return (struct.pack("<Q", len(text)) if start else b"") + text + data[start + size :]


def zipped(data: bytes, draw: random.Random) -> bytes:
    """Another member of a zip: changed, packed, repeated, renamed, left out, or grown by zeros."""
    if data[:2] != b"PK":
        return spliced(data, draw)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    at = draw.randrange(len(members))
    name, content = members[at]
    change = draw.randrange(6)
    if change == 0:
        members[at] = name, mutated(content or b"\0", draw, BYTES)
    elif change == 1:
        members[at] = name, content + bytes(draw.choice((100, 10**6, 10**8)))
    elif change == 2:
        members.append((name.replace("0", "1"), content))
    elif change == 3:
        members[at] = "../" + name, content
    elif change == 4:
        del members[at]
    packed = draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2))
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w", packed, compresslevel=1) as archive:
        for each, inside in members:
            archive.writestr(each, inside)
    return result.getvalue()


Change = Callable[[bytes, random.Random], bytes]
BYTES: tuple[Change, ...] = (flipped, cut, spliced, numbered, written)


def mutated(data: bytes, draw: random.Random, changes: Sequence[Change]) -> bytes:
    """What one change makes of a file."""
    return draw.choice(changes)(data, draw) if data else bytes(draw.randrange(9))


def changes_of(file: Path, data: bytes) -> tuple[Change, ...]:
    """The changes that suit a file; each is drawn as often as any other."""
    if data[:2] == b"PK":
        return *BYTES, zipped, zipped, zipped
    if file.suffix in (".json", ".safetensors") or data[8:9] == b"{":
        return *BYTES, valued, valued, valued, valued, valued
    return BYTES


class Worker:
    """A process that reads files, replaced where it was killed."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.reader, self.sound = "", Path()

    def begin(self, reader: str, sound: Path) -> None:
        """Reads a sound file, so that what a reader imports is there before memory is watched."""
        self.reader, self.sound = reader, sound
        if self.process is None:
            command = [sys.executable, str(Path(__file__).with_name("fuzz_worker.py"))]
            quiet = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=quiet
            )
        found = self._asked(self.process, {"reader": reader, "path": str(sound), "warm": True}, 600)
        if found is None or found["outcome"] != "read":
            raise SystemExit(f"{reader}: the sound file is not read: {found}")

    def read(self, path: Path) -> dict[str, Any]:
        """What became of a file; "hung" and "crashed" too, where the process had to be killed or died."""
        if self.process is None:
            self.begin(self.reader, self.sound)
        process = self.process
        assert process is not None
        found = self._asked(process, {"reader": self.reader, "path": str(path)}, WALL_S)
        if found is not None:
            return found
        died = process.poll()
        self.stop()
        outcome = "hung" if died is None else "crashed"
        return {
            "outcome": outcome,
            "seconds": WALL_S if died is None else 0.0,
            "bytes": 0,
            "why": f"exit {died}",
        }

    def _asked(
        self, process: subprocess.Popen[str], line: dict[str, Any], wall: float
    ) -> dict[str, Any] | None:
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(line), file=process.stdin, flush=True)
        ready, _, _ = select.select([process.stdout], [], [], wall)
        answer = process.stdout.readline() if ready else ""
        if not answer:
            time.sleep(0.2)
            return None
        return dict(json.loads(answer))

    def stop(self) -> None:
        """Ends the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def files_of(place: Path) -> list[Path]:
    """The files of a reader's place."""
    return [place] if place.is_file() else sorted(file for file in place.rglob("*") if file.is_file())


def mutations(name: str, sound: Path, scratch: Path, seed: int, numbers: range) -> Iterator[tuple[int, Path]]:
    """Changed copies of a sound file or folder, one after the other at the same place."""
    files = files_of(sound)
    for number in numbers:
        draw = random.Random(f"{seed} {name} {number}")
        place = scratch / "changed"
        if place.is_dir():
            shutil.rmtree(place)
        (shutil.copytree if sound.is_dir() else shutil.copyfile)(sound, place)
        file = draw.choice(files)
        data = file.read_bytes()
        (place / file.relative_to(sound)).write_bytes(mutated(data, draw, changes_of(file, data)))
        yield number, place


def run(worker: Worker, name: str, seed: int, numbers: range, keep: Path | None = None) -> dict[str, Any]:
    """The row of one reader."""
    reader, make = SEEDS[name]
    counts: Counter[str] = Counter()
    worst_s = worst_bytes = worst_ratio = 0.0
    with tempfile.TemporaryDirectory() as folder:
        sound, scratch = Path(folder) / "sound", Path(folder) / "scratch"
        scratch.mkdir()
        make(sound)
        worker.begin(reader, sound)
        for number, place in mutations(name, sound, scratch, seed, numbers):
            size = sum(file.stat().st_size for file in files_of(place))
            found = worker.read(place)
            outcome = "hung" if found["seconds"] > CPU_S else found["outcome"]
            allowed = max(TIMES * size, CANVASES if reader == "image" else FLOOR)
            much = found["bytes"] > allowed + OWN
            counts[outcome] += 1
            counts["too much memory"] += much
            worst_s = max(worst_s, found["seconds"])
            worst_bytes = max(worst_bytes, found["bytes"])
            worst_ratio = max(worst_ratio, max(found["bytes"] - OWN, 0) / allowed)
            if outcome in ("crashed", "hung") or much:
                print(f"{name}, number {number}: {outcome}, {found['seconds']:.1f} s, {found['bytes'] >> 20} MiB: "
                      f"{found['why'][-600:]}", file=sys.stderr)  # fmt: skip
            if keep is not None:
                (shutil.copytree if place.is_dir() else shutil.copyfile)(place, keep / f"{name}-{number}")
    columns = ("read", "refused", "crashed", "hung", "too much memory")
    return {
        "reader": name,
        "seed": seed,
        "mutations": len(numbers),
        **{column.replace(" ", "_"): counts[column] for column in columns},
        "worst_s": machine.significant(worst_s, 2),
        "worst_mib": round(worst_bytes / 2**20, 1),
        "worst_memory_of_allowed": round(worst_ratio, 2),
    }


def main() -> None:
    """Runs all readers, and writes their rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=600, help="mutations of each reader")
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    parser.add_argument(
        "--only", action="append", choices=list(SEEDS), help="one reader; several times for more"
    )
    parser.add_argument("--keep", type=Path, help="a folder for the changed files")
    parser.add_argument("--out", type=Path, default=machine.RESULTS / "fuzz.csv")
    asked = parser.parse_args()
    rows, worker = [], Worker()
    for name in asked.only or SEEDS:
        rows.append(run(worker, name, asked.seed, range(asked.first, asked.first + asked.count), asked.keep))
        print(rows[-1], file=sys.stderr)
    worker.stop()
    machine.print_table(rows, [*rows[0]])
    if not asked.only:
        machine.write_csv(asked.out, rows, ("reader", "seed"))
    bad = sum(row["crashed"] + row["hung"] + row["too_much_memory"] for row in rows)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
