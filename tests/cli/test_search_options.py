"""`omnivec search` page by page, by vectors, by the lines of a file, and with options that do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from workbench import CommandLine, loaded, prose, write_files


@pytest.fixture
def searched(omni: CommandLine, tiny: Path) -> CommandLine:
    """A folder with a collection of eight texts."""
    write_files(omni.folder / "docs", [prose(i) for i in range(8)])
    assert omni("index", "docs", "--model", tiny).code == 0
    return omni


def test_pages_order_weights_and_least_score(searched: CommandLine) -> None:
    whole = searched("search", "fox engine", "-k", "8", "--json").rows
    assert len(whole) == 8
    assert searched("search", "fox engine", "-k", "3", "--offset", "5", "--json").rows == whole[5:]
    ordered = searched(
        "search", "fox engine", "-k", "8", "--order-by=-name", "--space", "text", "--json"
    ).rows
    names = [row["document"] for row in ordered]
    assert names == sorted((row["document"] for row in whole), reverse=True)
    near = searched("search", "fox engine", "-k", "8", "--mode", "vector", "--json").rows
    weighed = searched("search", "fox engine", "-k", "8", "--weights", "1,0", "--json").rows
    assert [row["id"] for row in weighed] == [row["id"] for row in near]
    least = f"{(near[2]['score'] + near[3]['score']) / 2}"
    assert (
        searched("search", "fox engine", "--mode", "vector", "--min-score", least, "--json").rows == near[:3]
    )


def test_a_vector_from_a_file_or_a_list(searched: CommandLine, tiny: Path) -> None:
    vector = loaded(tiny).encode_query("fox engine")
    expected = searched("search", "fox engine", "--mode", "vector", "--json").rows
    np.save(searched.folder / "q.npy", vector)
    for given in ("q.npy", json.dumps(vector.tolist())):
        assert searched("search", "--vector", given, "--json").rows == expected


def test_lines_of_a_file(searched: CommandLine) -> None:
    (searched.folder / "q.txt").write_text("fox engine\n\nlazy dog\n")
    rows = searched("search", "--queries", "q.txt", "-k", "2").rows
    assert [row.pop("query") for row in rows] == [1, 1, 3, 3]
    alone = [searched("search", query, "-k", "2", "--json").rows for query in ("fox engine", "lazy dog")]
    for many, one in zip(rows, [row for own in alone for row in own], strict=True):
        assert many | {"score": 0} == one | {"score": 0}
        assert many["score"] == pytest.approx(one["score"], abs=1e-5)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["fox", "--vector", "[1]"], 2, "more than one is given"),
        (["--vector", "[1, 2]"], 2, "2 components, which no space has"),
        (["--vector", "none.npy"], 2, "none.npy"),
        (["--vector", "[1, x]"], 2, "no JSON list"),
        (["--queries", "none.txt"], 1, "none.txt"),
        (["--vector", "[1]", "--html", "a.html"], 2, "--html"),
        (["fox", "--weights", "2"], 2, "two numbers with a comma"),
        (["fox", "--min-score", "0.5"], 2, "mode='vector'"),
        (["fox", "--space", "none"], 2, "no space 'none'"),
        (["fox", "--offset", "-1"], 2, "offset=-1"),
    ],
)
def test_what_does_not_fit_is_one_line(searched: CommandLine, options: list[str], code: int, message: str):
    done = searched("search", *options)
    assert (done.code, done.out) == (code, "")
    assert message in done.err and "Traceback" not in done.err
