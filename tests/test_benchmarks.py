"""What the benchmarks share: turns, cosines, and a CSV that says where it was measured."""

from __future__ import annotations

import csv
import importlib.util
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def machine():
    spec = importlib.util.spec_from_file_location("machine", BENCHMARKS / "machine.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["machine"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["machine"]


def test_each_repetition_measures_all_and_each_engine_begins_one(machine):
    turns = list(machine.in_turns(["a", "b", "c"], 3))
    assert turns == [(0, "a"), (0, "b"), (0, "c"), (1, "b"), (1, "c"), (1, "a"), (2, "c"), (2, "a"), (2, "b")]


def test_a_row_says_where_and_with_what_it_was_measured(machine, tmp_path):
    machine.write_csv(
        tmp_path / "new" / "x.csv", [{"engine": "a", "wall_s": 1.5}, {"engine": "b", "wall_s": 2}]
    )
    with (tmp_path / "new" / "x.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["engine"] for row in rows] == ["a", "b"]
    assert rows[0]["wall_s"] == "1.5"
    assert int(rows[0]["cores"]) >= 1
    assert rows[0]["cpu"] and rows[0]["openvino"] and rows[0]["date"]
    assert rows[0]["amx_bf16"] in ("True", "False")


def test_cpu_seconds_count_this_process(machine):
    total, took = machine.spent(lambda: sum(range(2_000_000)))
    assert total == 1_999_999_000_000
    assert took.cpu > 0 and took.wall > 0


@pytest.mark.parametrize(("value", "printed"), [(1234.56, 1235.0), (0.0123456, 0.01235), (10.0, 10.0)])
def test_numbers_are_rounded_to_what_they_are_worth(machine, value, printed):
    assert machine.significant(value) == printed
