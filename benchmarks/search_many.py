"""1,000 queries in one call of `search_many`, and in as many calls of `search`: CPU seconds.

The queries are vectors, so that no model takes part, over 11,000 passages of 384 components, all of them and half of
them by a filter. Both ways find the same hits, which is checked. Writes results/search_many.csv.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median

import numpy as np

import machine
from omnivec import Collection
from omnivec.store.records import Document, Passage, SpaceRecord
from omnivec.store.sqlite import Catalogue

PASSAGES, DIM, QUERIES = 11_000, 384, 1_000
WAYS = ("search_many", "search")
FILTERS = {"all": None, "half": {"half": 1}}


def fill(folder: Path, chance: np.random.Generator) -> None:
    """A collection of random vectors, each the only passage of its document."""
    vectors = chance.standard_normal((PASSAGES, DIM)).astype(np.float32)
    record = SpaceRecord("text", "none", DIM, "cosine", {"weights": {}}, {"modalities": ["text"]}, ())
    with Catalogue.open(folder, create=True) as catalogue:
        catalogue.put_space(record)
        catalogue.write(
            [
                Document(
                    str(i), "text", "", b"", None, None, 0, 0, 0, {"half": i % 2}, 0,
                    (Passage(0, 9, None, f"number {i % 10} ", "text", {"text": row[None]}),),
                )
                for i, row in enumerate(vectors)
            ]
        )  # fmt: skip


def main() -> None:
    """Measures both ways in turns, over all passages and over half of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--out", type=Path, default=machine.RESULTS / "search_many.csv")
    arguments = parser.parse_args()
    chance = np.random.default_rng(0)
    rows = []
    with tempfile.TemporaryDirectory() as place:
        fill(Path(place) / "a.omni", chance)
        queries = chance.standard_normal((QUERIES, DIM)).astype(np.float32)
        with Collection(Path(place) / "a.omni", create=False) as notes:
            notes.search(queries[0])  # loads the vectors
            for name, where in FILTERS.items():
                calls = {
                    "search_many": lambda where=where: notes.search_many(queries, where=where),
                    "search": lambda where=where: [notes.search(query, where=where) for query in queries],
                }
                spent: dict[str, list[machine.Spent]] = {way: [] for way in WAYS}
                found = {}
                for _, way in machine.in_turns(WAYS, arguments.repetitions):
                    found[way], took = machine.spent(calls[way])
                    spent[way].append(took)
                if found["search"] != found["search_many"]:
                    raise SystemExit("the two ways found different hits")
                rows += [
                    {
                        "passages": name,
                        "way": way,
                        "queries": QUERIES,
                        "cpu_s": machine.significant(median(one.cpu for one in spent[way]), 3),
                        "wall_s": machine.significant(median(one.wall for one in spent[way]), 3),
                    }
                    for way in WAYS
                ]
    machine.print_table(rows, list(rows[0]))
    machine.write_csv(arguments.out, rows, ("passages", "way", "queries", "cpu"))


if __name__ == "__main__":
    main()
