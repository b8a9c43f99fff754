"""How long a filter takes over a collection of 100,000 documents with two passages each.

Metadata are those of files, with a year, tags, a project, and a dict: about 320 bytes of JSON for each document.
Measured is what a search asks first, the keys of the passages of all documents that match. All filters are run in each
repetition. Writes the median and the least CPU time of each to results/filters.csv under the label of `--label`; rows
of other labels stay. "scanned" is 3c5c08a, which computed each filter from the metadata of all documents.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import machine
from omnivec.store.records import Document, Passage
from omnivec.store.sqlite import Catalogue

DAY = date(2024, 1, 5)
SETS: dict[str, dict[str, dict[str, Any]]] = {
    "values": {
        "year = 2024": {"year": 2024},
        "suffix = .md": {"suffix": ".md"},
        "project = one of 100": {"project": "project 7"},
        "name = one file": {"name": "file777.md"},
        "year >= 2024": {"year": {"$gte": 2024}},
        "year >= 2020, suffix = .md": {"year": {"$gte": 2020}, "suffix": ".md"},
        "suffix = .md or year < 2000": {"$or": [{"suffix": ".md"}, {"year": {"$lt": 2000}}]},
        "year != 2024": {"year": {"$ne": 2024}},
        "year in 20": {"year": {"$in": list(range(1990, 2010))}},
        "tag = red": {"tags": "red"},
        "camera.make = Canon": {"camera.make": "Canon"},
        "path begins": {"path": {"$prefix": "docs/7/"}},
        "name contains": {"name": {"$contains": "99"}},
        "field exists": {"draft": {"$exists": True}},
    },
    "patterns": {"name ~= *9.md": {"name": {"$glob": "*9.md"}}},
    "dates": {
        "modified on a day": {"modified": DAY},
        "modified >= 2024": {"modified": {"$gte": DAY}},
        "modified in 30 days": {"modified": {"$gte": DAY, "$lt": DAY + timedelta(30)}},
        "modified >= 2010": {"modified": {"$gte": date(2010, 1, 1)}},
    },
}
"""Sets of filters by what they need; an earlier version may not have all."""


def documents(count: int) -> Iterator[Document]:
    """Documents whose metadata are like those of files."""
    chance = random.Random(0)
    for i in range(count):
        suffix = chance.choice([".md", ".txt", ".pdf"])
        modified = datetime(2010, 1, 1, tzinfo=UTC) + timedelta(seconds=chance.randrange(15 * 365 * 86_400))
        metadata = {
            "path": f"docs/{i % 100}/file{i}{suffix}",
            "name": f"file{i}{suffix}",
            "suffix": suffix,
            "size": chance.randrange(10**6),
            "modified": modified.isoformat(),
            "year": chance.randrange(1990, 2026),
            "tags": chance.sample(["red", "green", "blue", "black", "white"], 2),
            "camera": {"make": chance.choice(["Canon", "Nikon", "Sony", "Leica"]), "iso": 100},
            "project": f"project {i * 7919 % 100}",
            "author": chance.choice(["Ann", "Bob", "Cid"]),
        }
        passages = tuple(Passage(0, 1, 1, "", "text", {}) for _ in range(2))
        yield Document(str(i), "text", "", b"", None, None, 0, 0, 0, metadata, 0, passages)


def main() -> None:
    """Measures the filters."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--label", default="now", help="what the rows are of, such as a version")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--out", type=Path, default=machine.RESULTS / "filters.csv")
    given = parser.parse_args()
    filters = {name: where for one in given.sets for name, where in SETS[one].items()}
    taken: dict[str, list[float]] = {name: [] for name in filters}
    found = dict.fromkeys(filters, 0)
    with (
        tempfile.TemporaryDirectory() as place,
        Catalogue.open(Path(place) / "c.omni", create=True) as catalogue,
    ):
        catalogue.write(list(documents(given.documents)))
        for _, name in machine.in_turns(list(filters), given.repetitions):
            keys, spent = machine.spent(partial(catalogue.passage_keys, filters[name]))
            found[name] = len(keys) // 2
            taken[name].append(1000 * spent.cpu)
    rows = [
        {
            "label": given.label,
            "filter": name,
            "documents": given.documents,
            "matching": found[name],
            "cpu_ms": machine.significant(statistics.median(times), 3),
            "least_cpu_ms": machine.significant(min(times), 3),
        }
        for name, times in taken.items()
    ]
    machine.print_table(rows, ("filter", "matching", "cpu_ms", "least_cpu_ms"))
    machine.write_csv(given.out, rows, ("label", "filter"))


if __name__ == "__main__":
    main()
