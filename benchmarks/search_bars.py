"""What search.py is to show: one row for each bar, with the figure, and whether it is met."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from machine import significant
from search_peers import CHROMA, OURS
from search_run import ABOVE, BATCH, TARGET

Row = Mapping[str, Any]


def bars(searched: Sequence[Row], ingested: Sequence[Row], million: Sequence[Row]) -> list[dict[str, Any]]:
    """The bars of what was measured; rows are those of the CSVs."""
    found: list[dict[str, Any]] = []
    for name, figure, bound, least in _figures(searched, ingested, million):
        met = figure >= bound if least else figure <= bound
        found.append(
            {
                "bar": name,
                "bound": f"{'>=' if least else '<='} {bound:g}",
                "figure": significant(figure, 3),
                "met": "met" if met else "NOT MET",
            }
        )
    return found


def _figures(
    searched: Sequence[Row], ingested: Sequence[Row], million: Sequence[Row]
) -> Iterator[tuple[str, float, float, bool]]:
    """(name, figure, bound, whether the bound is the least)."""
    real = [row for row in searched if not row.get("million")]
    own = {(row["form"], int(row["batch"])): row for row in real if row["store"] == OURS}
    for (form, batch), row in own.items():
        share = float(row["recall"])
        yield f"recall of omnivec, {form}, {batch} a call", share, TARGET, True
        if form == "keys":
            yield from _of_keys(real, row, batch)
        if form == "hits" and ("keys", 1) in own:
            more = float(row["cpu_ms"]) - float(own["keys", 1]["cpu_ms"])
            yield "CPU ms that a whole hit costs beside keys and scores", more, 0.5, False
        if form == "filtered":
            for other in _of(real, form, batch, CHROMA):
                yield "filter of 1 %, against Chroma (CPU)", float(other["ratio_cpu"]), 10, True
    for row in ingested:
        if row["store"] == CHROMA and row["ratio_cpu"]:
            yield "ingest with the index, against Chroma (CPU)", float(row["ratio_cpu"]), 5, True
    yield from _of_million(million)


def _of_keys(real: Sequence[Row], own: Row, batch: int) -> Iterator[tuple[str, float, float, bool]]:
    said = "single" if batch == 1 else f"{batch} a call"
    for library, bound in ((CHROMA, 3), ("lancedb", 10)):
        ratios = [float(row["ratio_cpu"]) for row in _of(real, "keys", batch, library)]
        if ratios:
            yield f"keys and scores, {said}, against {library} (CPU)", min(ratios), bound, True
    alone = [float(row["ratio_cpu"]) for row in _of(real, "keys", batch, "faiss")]
    if alone:
        yield f"keys and scores, {said}, CPU time of omnivec / FAISS alone", 1 / min(alone), 1.3, False
    if batch == BATCH and float(own["recall"]) > ABOVE:
        yield "recall of omnivec, at most", float(own["recall"]), ABOVE, False


def _of(rows: Sequence[Row], form: str, batch: int, library: str) -> list[Row]:
    """Rows of one library that reach the recall."""
    return [
        row
        for row in rows
        if row["form"] == form
        and int(row["batch"]) == batch
        and row["store"].partition(" ")[0] == library
        and row["ratio_cpu"]
        and (form != "keys" or float(row["recall"]) >= TARGET)
    ]


def _of_million(million: Sequence[Row]) -> Iterator[tuple[str, float, float, bool]]:
    for row in million:
        about = f"at {int(row['rows']):,} rows"
        if row["what"] == "search" and row["store"] == OURS:
            name = f"CPU ms a query, {row['form']}, {row['batch']} a call, {about}"
            yield name, float(row["cpu_ms"]), 5, False
            yield f"recall, {row['form']}, {row['batch']} a call, {about}", float(row["recall"]), TARGET, True
        elif row["what"] == "open":
            yield (
                f"s from process start to the first hits, {about}",
                float(row["open_and_first_query_s"]),
                1,
                False,
            )
            yield f"resident memory / raw vectors, {about}", float(row["share_of_raw"]), 0.25, False
        elif row["what"] == "shell" and row["mode"] == "hybrid":
            yield f"s, omnivec search QUERY, {about}", float(row["wall_s"]), 1, False
