"""A folder of 5,000 photographs indexed by `omnivec index`, killed in the middle and resumed.

    python benchmarks/image_folder.py [--images 5000] [--model efficientnet-lite0] [--folder FOLDER]

The photographs of scikit-image and scikit-learn are cut and resized into different JPEGs of 300 to 1,200 pixels. Among
them lie a truncated JPEG, a text named .jpg, an empty file, a PNG of 30,000 x 30,000 pixels in few bytes, and an
animated GIF, of which the first frame is taken. The command runs as a process of its own, whose resident memory
a thread reads every 50 ms. When a share of the documents is acknowledged it is killed by SIGKILL; then all that was
acknowledged must be in the collection. Resumed, nothing that was committed may be embedded again, each bad file must be
named, and all else must be in. Rates are from the first line to the last, memory grows from the end of the first tenth
of the folder's images. A check that fails ends the script. Writes results/image_folder.csv.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import machine
from omnivec.collection.collection import Collection

PHOTOGRAPHS = {
    "skimage": ("data", ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png")),
    "sklearn": ("datasets/images", ("china.jpg", "flower.jpg")),
}
SMALLEST, LARGEST = 300, 1200
LEAST_CROP = 0.3
QUALITY = 85
BOMB = 30_000
MIB = 2**20
BAD = ("truncated.jpg", "a text.jpg", "empty.jpg", "bomb.png")
ANIMATED = "moving.gif"


def photographs() -> list[Image.Image]:
    """The originals, RGB."""
    found = []
    for package, (place, names) in PHOTOGRAPHS.items():
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            sys.exit(f"the photographs are those of {package}, which is not installed")
        for name in names:
            with Image.open(Path(spec.origin).parent / place / name) as image:
                found.append(image.convert("RGB"))
    return found


def write_images(folder: Path, count: int) -> None:
    """Different JPEGs: a part of an original, mirrored or not, at a size of its own."""
    originals, rng = photographs(), np.random.default_rng(0)
    for i in range(count):
        original = originals[i % len(originals)]
        width, height = (int(side * rng.uniform(LEAST_CROP, 1)) for side in original.size)
        left, upper = (
            int(rng.integers(room + 1)) for room in (original.width - width, original.height - height)
        )
        scale = int(rng.integers(SMALLEST, LARGEST + 1)) / max(width, height)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        box = (left, upper, left + width, upper + height)
        image = original.resize(size, Image.Resampling.BILINEAR, box)
        if rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        image.save(folder / f"{i:05d}.jpg", quality=QUALITY)


def write_bad(folder: Path) -> None:
    """The files that no vector comes from, and the animation."""
    whole = (folder / "00000.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "a text.jpg").write_text("This is a text that somebody has given the name of an image.\n")
    (folder / "empty.jpg").touch()
    (folder / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(grey_png(BOMB)))
    frames = [Image.new("RGB", (320, 240), colour) for colour in ("red", "green", "blue")]
    frames[0].save(folder / ANIMATED, save_all=True, append_images=frames[1:], duration=100)


def grey_png(side: int) -> Iterator[bytes]:
    """The chunks of a PNG of one grey: its pixels are never in memory."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return len(content).to_bytes(4, "big") + kind + content + checksum.to_bytes(4, "big")

    size = side.to_bytes(4, "big")
    yield chunk(b"IHDR", size + size + bytes((8, 0, 0, 0, 0)))
    packer, row = zlib.compressobj(1), bytes(1) + b"\x80" * side
    yield chunk(b"IDAT", b"".join(packer.compress(row) for _ in range(side)) + packer.flush())
    yield chunk(b"IEND", b"")


@dataclass
class Indexed:
    """What one run of the command said and took.

    Attributes:
        lines: its events, (seconds, event).
        memory: (seconds, resident bytes).
        summary: its last line; none where it was killed.
        code: what it exited with.
    """

    lines: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    code: int = 0

    def documents(self, *statuses: str) -> list[str]:
        """Those that were said to have come to one of these ends, in order."""
        return [event["document"] for _, event in self.lines if event["status"] in statuses]

    def rate(self) -> float:
        """Images a second between the first commit and the last."""
        times = [when for when, event in self.lines if event["status"] == "new"]
        behind = sum(when > times[0] + 1 for when in times)  # the lines of a commit come within a second
        return behind / (times[-1] - times[0]) if behind else 0.0

    def resident(self, documents: int) -> tuple[float, float, float]:
        """MiB at the first line, the most until so many documents were in, and the most after that."""
        times = [when for when, event in self.lines if event["status"] == "new"]
        turn = times[min(documents, len(times)) - 1]
        first = [size for when, size in self.memory if when <= times[0]]
        early = [size for when, size in self.memory if when <= turn]
        late = [size for when, size in self.memory if when > turn] or early
        return first[-1] / MIB, max(early) / MIB, max(late) / MIB

    def peaks(self, parts: int = 10) -> list[float]:
        """The most MiB in each part of the time from the first line to the last."""
        first, last = self.lines[0][0], self.lines[-1][0]
        edges = np.linspace(first, last, parts + 1)
        inside = [
            [size for when, size in self.memory if start <= when <= end] for start, end in pairwise(edges)
        ]
        return [max(sizes) / MIB for sizes in inside if sizes]


def index(images: Path, collection: Path, model: str, stop_after: int | None = None) -> Indexed:
    """Runs the command; killed when so many documents are acknowledged."""
    command = [sys.executable, "-c", "from omnivec.cli.main import main; main()", "index", str(images)]
    command += ["--collection", str(collection), "--model", model, "--json"]
    run, began = Indexed(), time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    watch = threading.Thread(target=_watch, args=(process, run, began), daemon=True)
    watch.start()
    assert process.stdout is not None
    for line in process.stdout:
        said = json.loads(line)
        if "summary" in said:
            run.summary = said["summary"]
            continue
        run.lines.append((time.perf_counter() - began, said))
        if stop_after is not None and len(run.lines) >= stop_after:
            os.kill(process.pid, signal.SIGKILL)
            stop_after = None
    run.code = process.wait()
    watch.join()
    return run


def _watch(process: subprocess.Popen[str], run: Indexed, began: float) -> None:
    """Reads the resident bytes of a process until it ends."""
    page, status = os.sysconf("SC_PAGE_SIZE"), Path(f"/proc/{process.pid}/statm")
    while process.poll() is None:
        try:
            pages = int(status.read_text().split()[1])
        except (OSError, IndexError):
            return
        if pages:
            run.memory.append((time.perf_counter() - began, pages * page))
        time.sleep(0.05)


def committed(collection: Path) -> set[str]:
    """The documents that a collection holds."""
    with Collection(collection, create=False, readonly=True) as opened:
        return {entry.id for entry in opened.documents()}


def require(held: bool, what: str) -> None:
    """Ends the script where a promise was not kept."""
    print(f"{'held' if held else 'BROKEN'}: {what}", file=sys.stderr)
    if not held:
        sys.exit(1)


def names(documents: Sequence[str]) -> set[str]:
    """The files' names of documents."""
    return {Path(document).name for document in documents}


def check(first: Indexed, kept: set[str], second: Indexed, final: set[str], images: int) -> None:
    """What is promised of a folder that was killed in the middle and resumed."""
    acknowledged, anew = first.documents("new"), second.documents("new", "changed")
    require(first.code == -signal.SIGKILL, f"killed after {len(acknowledged)} acknowledged documents")
    require(set(acknowledged) <= kept, f"all of them are among the {len(kept)} that the collection holds")
    require(not kept & set(anew), f"none of these is embedded again, {len(anew)} others are")
    require(second.summary["unchanged"] == len(kept), f"{len(kept)} are said to be unchanged")
    failed = second.summary["failed"]
    require(names(failed) == set(BAD), f"failed by name: {', '.join(sorted(names(failed)))}")
    require(names(second.documents("failed")) == set(BAD), "each has a line with its reason")
    require(second.code == 3, "the exit code says that some failed")
    require(len(final) == images + 1, f"{len(final)} documents are in: all images and the animation")
    notes = names([*first.summary.get("notes", {}), *second.summary.get("notes", {})])
    noted = [event for _, event in (*first.lines, *second.lines) if event.get("note")]
    require(ANIMATED in notes | names([event["document"] for event in noted]), "the animation has a note")


def row(phase: str, run: Indexed, tenth: int, before: set[str], held: set[str]) -> dict[str, Any]:
    """One line of the result; what the collection held before the run, and after it."""
    first, early, late = run.resident(tenth)
    return {
        "phase": phase,
        "committed_before": len(before),
        "acknowledged": len(run.documents("new", "changed")),
        "committed": len(held),
        "failed": len(run.documents("failed")),
        "embedded_again": len(before.intersection(run.documents("new", "changed"))),
        "images_per_s": machine.significant(run.rate(), 3),
        "first_mib": round(first),
        "first_tenth_mib": round(early),
        "rest_mib": round(late),
        "growth_mib": round(late - early),
        "by_tenth_mib": " ".join(f"{peak:.0f}" for peak in run.peaks()),
    }


def main() -> None:
    """Makes the folder, indexes it twice, checks, prints and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--share", type=float, default=0.5, help="of the images that are in before the kill")
    parser.add_argument("--folder", type=Path, help="where the images are, or are made and stay")
    parser.add_argument("--out", type=Path, default=machine.RESULTS / "image_folder.csv")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        images, collection = asked.folder or Path(place) / "images", Path(place) / "images.omni"
        if not images.is_dir():
            images.mkdir(parents=True)
            write_images(images, asked.images)
            write_bad(images)
        first = index(images, collection, asked.model, round(asked.share * asked.images))
        kept = committed(collection)
        second = index(images, collection, asked.model)
        final = committed(collection)
        size = sum(path.stat().st_size for path in images.iterdir())
    check(first, kept, second, final, asked.images)
    tenth = max(1, asked.images // 10)
    rows = [
        row("killed", first, tenth, set(), kept),
        row("resumed", second, tenth, kept, final),
    ]
    rows = [{"images": asked.images, "megabytes": round(size / 1e6), **line} for line in rows]
    machine.print_table(rows, [column for column in rows[0] if column != "by_tenth_mib"])
    machine.write_csv(asked.out, rows)


if __name__ == "__main__":
    main()
