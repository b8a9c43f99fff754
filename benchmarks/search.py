"""Searching in 100,000 and in a million rows: omnivec against Chroma, LanceDB, Qdrant Edge and FAISS alone.

    python benchmarks/search.py [prepare] [ingest] [search] [million] [bars]      (all parts by default)
        [--folder ~/.cache/omnivec/search] [--rows 100000] [--peers NAME ...] [--rounds 5] [--again] [--quick]

prepare   embeds passages of real texts with the default model (search_data.py), makes a million rows of them, and an
          environment for each peer, in which pip installs its current version
ingest    ids, texts, three fields and the vectors into each store, the index included
search    recall@10 against exact search over 1,000 held-out queries: each store is tuned to the least effort that
          reaches 0.99, then all are measured in turns: keys and scores, one query in a call and 100; whole hits; and
          whole hits of the rows of which a field has a value that one in a hundred has, another for each query
million   the same at 1,000,000 rows, the time to open, resident memory, and `omnivec search QUERY` as a whole process
bars      what is to be shown, and whether it is, of the rows of the CSVs

CPU time is that of the process with all its threads, in milliseconds a query; `ratio_cpu` is the median over the rounds
of (the store / omnivec). What a part has made stays in the folder: a part that is run again goes on from there, and
`--again` fills the stores of `--peers` anew. Writes results/search.csv, search_ingest.csv, search_million.csv and
search_vectors.csv, beside each other.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import machine
import search_data
from omnivec.files import cache_folder
from search_bars import bars
from search_million import opened, shell
from search_peers import OURS, PEERS
from search_run import FORMS, Bench, environments, ingest, search
from search_shared import MILLION, REAL, Rows

PARTS = ("prepare", "ingest", "search", "million", "bars")
AT_A_MILLION = (OURS, "faiss IVF RaBitQ")
QUICK = 10_000


def prepare(asked: argparse.Namespace) -> bool:
    """Vectors, the million, environments; whether the data sets are there."""
    if not search_data.embed(asked.folder, asked.rows):
        return False
    rows = [search_data.distances(Rows(asked.folder, REAL, asked.rows))]
    if "million" in asked.parts:
        search_data.enlarge(asked.folder, asked.million)
        rows.append(search_data.distances(Rows(asked.folder, MILLION, asked.million)))
    machine.print_table(rows, list(rows[0]))
    machine.write_csv(asked.results / "search_vectors.csv", rows, ("rows", "vectors"))
    environments(asked.folder, [PEERS[name] for name in asked.peers])
    return True


def write(path: Path, rows: list[dict[str, Any]], key: tuple[str, ...], columns: tuple[str, ...]) -> None:
    """Prints rows and puts them into a CSV."""
    if rows:
        machine.print_table(rows, columns)
        machine.write_csv(path, rows, (*key, "cpu"))


def million(asked: argparse.Namespace, bench: Bench) -> None:
    """Fills, searches, opens, asks from the shell."""
    names = tuple(name for name in asked.million_peers if name in PEERS)
    large = replace(bench, rows=Rows(asked.folder, MILLION, asked.million), names=names)
    filled = [{"what": "ingest", **row} for row in ingest(large, 1, asked.again)]
    searched = [{"what": "search", **row} for row in search(large, asked.rounds, FORMS)]
    start = [{"what": "open", "store": OURS, **opened(large, asked.rounds)}]
    asking = [{"what": "shell", "store": OURS, **row} for row in shell(large, asked.rounds)]
    path, key = asked.results / "search_million.csv", ("what", "store", "form", "batch", "mode", "rows")
    for rows in (filled, searched, start, asking):
        if rows:
            machine.print_table(rows, list(rows[0]))
    machine.write_csv(path, [*filled, *searched, *start, *asking], (*key, "cpu"))


def show_bars(results: Path, rows: int) -> None:
    """Prints the bars of what the CSVs hold."""
    read = [machine.read_csv(results / f"search{name}.csv") for name in ("", "_ingest", "_million")]
    searched, ingested = ([row for row in one if int(row["rows"]) == rows] for one in read[:2])
    found = bars(searched, ingested, read[2])
    if found:
        machine.print_table(found, list(found[0]))


def arguments() -> argparse.Namespace:
    """What was asked."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog=f"Stores: {', '.join(PEERS)}.",
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--folder", type=Path, default=cache_folder() / "search", help="for what is made")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--million", type=int, default=1_000_000, metavar="ROWS", help="of the part million")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), metavar="STORE")
    parser.add_argument(
        "--million-peers", nargs="+", choices=PEERS, default=list(AT_A_MILLION), metavar="STORE"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ingest-rounds", type=int, default=1)
    parser.add_argument("--again", action="store_true", help="fill stores that are whole, too")
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK:,} rows, a million being 20,000; one round"
    )
    parser.add_argument("--results", type=Path, default=machine.RESULTS, help="folder of the CSVs")
    asked = parser.parse_args()
    asked.parts = asked.parts or list(PARTS)
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"there is no part {min(unknown)!r}: {', '.join(PARTS)}")
    if asked.quick:
        asked.rows, asked.million, asked.rounds = QUICK, 2 * QUICK, 1
    return asked


def main() -> None:
    """Runs the parts that are asked for, in their order."""
    asked = arguments()
    bench = Bench(asked.folder, Rows(asked.folder, REAL, asked.rows), tuple(asked.peers), asked.results)
    if "prepare" in asked.parts and not prepare(asked):
        return
    if "ingest" in asked.parts:
        rows = ingest(bench, asked.ingest_rounds, asked.again)
        columns = ("store", "rows", "cpu_s", "wall_s", "ratio_cpu", "disk_mb", "peak_mb")
        write(asked.results / "search_ingest.csv", rows, ("store", "rows"), columns)
    if "search" in asked.parts:
        rows = search(bench, asked.rounds)
        rows.sort(key=lambda row: (row["form"], row["batch"]))
        shown = (
            "store",
            "form",
            "batch",
            "effort",
            "refine",
            "recall",
            "cpu_ms",
            "queries_per_cpu_s",
            "wall_ms",
        )
        write(asked.results / "search.csv", rows, ("store", "rows", "form", "batch"), (*shown, "ratio_cpu"))
    if "million" in asked.parts:
        million(asked, bench)
    if "bars" in asked.parts:
        show_bars(asked.results, asked.rows)


if __name__ == "__main__":
    main()
