"""Copies of real photographs: how many `omnivec duplicates` finds, and what else it takes for one.

    python benchmarks/duplicates.py
    python benchmarks/duplicates.py --folder photographs/ --take 200

Photographs of the packages scikit-image and scikit-learn, every other one cut into four quarters, which share no pixel
and are photographs of their own that look alike; or those of a folder. Each is written as it is, copied, resized,
recompressed and cropped. Two views of one scene by two cameras and 100 small faces, each once, are there to be
mistaken.
Precision is of pairs that are said to show the same; recall is of copies found in the group of their photograph.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import machine
from omnivec.models.loading import load
from omnivec.tasks.duplicates import Found, find_copies

SHIPPED = {
    "skimage": (
        "data",
        "astronaut.png brick.png camera.png cell.png chelsea.png clock_motion.png coffee.png coins.png grass.png "
        "gravel.png hubble_deep_field.jpg ihc.png moon.png page.png retina.jpg rocket.jpg text.png",
    ),
    "sklearn": ("datasets/images", "china.jpg flower.jpg"),
}
VIEWS = ("motorcycle_left.png", "motorcycle_right.png")
FACES = "lfw_subset.npy"
Change = Callable[[Image.Image], Image.Image]
DISTRACTOR = "distractor"


def scaled(share: float) -> Change:
    """Both sides times a share."""
    return lambda image: image.resize(
        (round(image.width * share), round(image.height * share)), Image.Resampling.BICUBIC
    )


def cut(left: float, upper: float, right: float, lower: float) -> Change:
    """Shares of the sides cut off."""
    return lambda image: image.crop(
        (
            round(image.width * left),
            round(image.height * upper),
            round(image.width * (1 - right)),
            round(image.height * (1 - lower)),
        )
    )


def whole(image: Image.Image) -> Image.Image:
    """All of it."""
    return image


# Kind of copy -> what is done, JPEG quality, the reason that is to be given.
KINDS: Mapping[str, tuple[Change, int, str]] = {
    "resized to 50 %": (scaled(0.5), 95, "resized"),
    "resized to 25 %": (scaled(0.25), 95, "resized"),
    "JPEG quality 75": (whole, 75, "recompressed"),
    "JPEG quality 40": (whole, 40, "recompressed"),
    "5 % off one side": (cut(0.05, 0, 0, 0), 95, "cropped"),
    "10 % off one side": (cut(0, 0, 0, 0.1), 95, "cropped"),
    "20 % off one side": (cut(0, 0, 0.2, 0), 95, "cropped"),
    "5 % off each side": (cut(0.05, 0.05, 0.05, 0.05), 95, "cropped"),
    "10 % off each side": (cut(0.1, 0.1, 0.1, 0.1), 95, "cropped"),
    "20 % off two sides": (cut(0.2, 0.2, 0, 0), 95, "cropped"),
    "20 % off each side": (cut(0.2, 0.2, 0.2, 0.2), 95, "cropped"),
    "10 % off each side, 50 %, quality 75": (
        lambda image: scaled(0.5)(cut(0.1, 0.1, 0.1, 0.1)(image)),
        75,
        "cropped",
    ),
}


def opened(path: Path) -> Image.Image:
    """A photograph in RGB."""
    with Image.open(path) as image:
        return image.convert("RGB")


def quarters(image: Image.Image) -> Iterator[Image.Image]:
    """Four photographs without a pixel in common."""
    width, height = image.width // 2, image.height // 2
    for left, upper in ((0, 0), (width, 0), (0, height), (width, height)):
        yield image.crop((left, upper, left + width, upper + height))


def shipped(package: str, place: str, name: str) -> Path:
    """A file of an installed package."""
    return Path(str(importlib.util.find_spec(package).origin)).parent / place / name


def photographs(folder: Path | None, take: int) -> Iterator[Image.Image]:
    """What is copied."""
    if folder is not None:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        yield from map(opened, files[:take])
        return
    files = [
        shipped(package, place, name) for package, (place, names) in SHIPPED.items() for name in names.split()
    ]
    for i, file in enumerate(files):
        yield from quarters(opened(file)) if i % 2 else [opened(file)]


def distractors() -> Iterator[Image.Image]:
    """Photographs that look like others and are none of them."""
    yield from (opened(shipped("skimage", "data", name)) for name in VIEWS)
    for face in np.load(shipped("skimage", "data", FACES))[:100]:
        yield Image.fromarray((face * 255).astype(np.uint8)).convert("RGB")


def write(folder: Path, source: Path | None, take: int) -> dict[Path, tuple[int, str]]:
    """The files of the set: of each which photograph it shows, and the kind of copy."""
    shows: dict[Path, tuple[int, str]] = {}
    count = 0
    for count, image in enumerate(photographs(source, take), 1):
        first = folder / f"{count}-original.png"
        image.save(first)
        shows[first] = count, "original"
        again = folder / f"{count}-exact.png"
        shutil.copy(first, again)
        shows[again] = count, "exact"
        for i, (kind, (change, quality, _)) in enumerate(KINDS.items()):
            path = folder / f"{count}-{i}.jpg"
            change(image).save(path, quality=quality)
            shows[path] = count, kind
    for i, image in enumerate(distractors(), count + 1):
        path = folder / f"{i}-other.png"
        image.save(path)
        shows[path] = i, DISTRACTOR
    return shows


def judged(found: Found, shows: Mapping[Path, tuple[int, str]]) -> list[dict[str, Any]]:
    """For each kind of copy, and for all: how many were found, with the right reason, and what was wrong."""
    group_of: dict[Path, int] = {}
    reasons: dict[Path, str] = {}
    for number, group in enumerate(found.groups):
        group_of |= dict.fromkeys((group.keep.path, *(copy.file.path for copy in group.copies)), number)
        reasons |= {copy.file.path: copy.why for copy in group.copies}
    originals = {photograph: path for path, (photograph, kind) in shows.items() if kind == "original"}
    said: dict[Path, list[bool]] = {path: [] for path in shows}
    members: dict[int, list[Path]] = {}
    for path, number in group_of.items():
        members.setdefault(number, []).append(path)
    for paths in members.values():
        for one, other in combinations(paths, 2):
            right = shows[one][0] == shows[other][0]
            said[one].append(right)
            said[other].append(right)
    expected = {kind: why for kind, (_, _, why) in KINDS.items()} | {"exact": "exact"}
    rows = []
    for kind in (*expected, "all"):
        copies = [
            path for path, (_, own) in shows.items() if own == kind or (kind == "all" and own in expected)
        ]
        hits = [
            path
            for path in copies
            if path in group_of and group_of[path] == group_of.get(originals[shows[path][0]])
        ]
        pairs = [right for path in (shows if kind == "all" else copies) for right in said[path]]
        reasoned = [path for path in hits if reasons.get(path, "exact") == expected[shows[path][1]]]
        rows.append(
            {
                "kind": kind,
                "copies": len(copies),
                "found": len(hits),
                "recall": round(len(hits) / len(copies), 4),
                "precision": round(sum(pairs) / max(len(pairs), 1), 4),
                "right_reason": round(len(reasoned) / max(len(hits), 1), 4),
            }
        )
    return rows


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, action="append", help="photographs of your own, too")
    parser.add_argument("--take", type=int, default=200, help="how many of a folder")
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--output", type=Path, default=machine.RESULTS / "duplicates.csv")
    arguments = parser.parse_args()
    model = load(arguments.model)
    rows = []
    for source in (None, *(arguments.folder or ())):
        with tempfile.TemporaryDirectory() as name:
            shows = write(Path(name), source, arguments.take)
            found, took = machine.spent(lambda shows=shows: find_copies(list(shows), model))
        set_of = {
            "set": "scikit-image, scikit-learn" if source is None else source.name,
            "model": arguments.model,
            "photographs": sum(kind == "original" for _, kind in shows.values()),
            "files": len(shows),
            "cpu_s": machine.significant(took.cpu),
        }
        own = [{**set_of, **row} for row in judged(found, shows)]
        machine.print_table(own, [name for name in own[0] if name not in ("model", "cpu_s")])
        print(f"{took.cpu:.1f} CPU-seconds, {took.wall:.1f} s\n")
        rows += own
    machine.write_csv(arguments.output, rows)


if __name__ == "__main__":
    main()
