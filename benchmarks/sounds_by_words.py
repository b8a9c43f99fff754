"""ESC-10 searched by words without a model of texts: how many of the first ten sounds are of the class that is named.

    python benchmarks/sounds_by_words.py [--model yamnet]

400 clips of 5 s in ten classes are indexed as `omnivec index` does it: the text of a sound is the names of the
classes of AudioSet that the model hears in it, with a probability of at least 0.1. The names of the ten classes, in
the spelling of ESC-50 and in that of the set's own folders, are searched for by their words. Neither the names nor
the clips were used to train the model.

Writes results/sounds_by_words.csv. Data: esc10 in ../shared/data or OMNIVEC_TEST_DATA.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import machine
import omnivec

FIRST = 10

NAMES = {
    "Dog bark": "dog",
    "Rain": "rain",
    "Sea waves": "sea waves",
    "Baby cry": "crying baby",
    "Clock tick": "clock tick",
    "Person sneeze": "sneezing",
    "Helicopter": "helicopter",
    "Chainsaw": "chainsaw",
    "Rooster": "rooster",
    "Fire crackling": "crackling fire",
}
"""Name of a folder -> name of the class in ESC-50."""


def precision(sounds: omnivec.Collection, query: str, folder: str) -> float:
    """The share of the first ten hits that are in the folder of a class."""
    hits = sounds.search(query, FIRST)
    return sum(Path(hit.document).parent.name.endswith(folder) for hit in hits) / FIRST


def measured(name: str, folder: Path) -> list[dict[str, Any]]:
    """A row for each class, and one for their mean."""
    with omnivec.Collection(folder / "sounds.omni", models={"audio": name}) as sounds:
        sounds.sync(folder)
        rows: list[dict[str, Any]] = [
            {
                "model": name,
                "class": of_folder,
                "query": query,
                "precision_at_10": precision(sounds, query, of_folder),
                "precision_at_10_by_folder_name": precision(sounds, of_folder, of_folder),
            }
            for of_folder, query in NAMES.items()
        ]
    columns = ("precision_at_10", "precision_at_10_by_folder_name")
    means = {column: round(sum(row[column] for row in rows) / len(rows), 3) for column in columns}
    return [*rows, {"model": name, "class": "mean", "query": "", **means}]


def main() -> None:
    """Measures, prints a table and writes the CSV."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="yamnet")
    parser.add_argument("--output", type=Path, default=machine.RESULTS / "sounds_by_words.csv")
    given = parser.parse_args()
    path = machine.data("esc10", "audio.zip")
    if path is None:
        sys.exit("esc10 is not in the data folder; OMNIVEC_TEST_DATA names another place")
    with tempfile.TemporaryDirectory() as place, zipfile.ZipFile(path) as files:
        files.extractall(place)
        rows = measured(given.model, Path(place))
    machine.print_table(rows, list(rows[0]))
    machine.write_csv(given.output, rows, ("model", "class"))


if __name__ == "__main__":
    main()
