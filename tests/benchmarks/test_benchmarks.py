"""What the benchmarks share and compute: turns, a CSV with its machine, workers, operations, padding."""

from __future__ import annotations

import csv
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from patience import PATIENCE

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def machine():
    spec = importlib.util.spec_from_file_location("machine", BENCHMARKS / "machine.py")
    assert spec is not None
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


def test_rows_measured_before_stay_unless_they_are_measured_again(machine, tmp_path):
    path, key = tmp_path / "x.csv", ("part", "cpu")
    machine.write_csv(path, [{"part": "a", "wall_s": 1}, {"part": "b", "wall_s": 2, "cpu": "another"}], key)
    machine.write_csv(path, [{"part": "b", "wall_s": 3}, {"part": "a", "wall_s": 4, "wall_s_low": 3}], key)
    rows = machine.read_csv(path)
    found = [(row["part"], row["wall_s"], row["wall_s_low"], row["cpu"] == "another") for row in rows]
    assert found == [("b", "2", "", True), ("b", "3", "", False), ("a", "4", "3", False)]
    assert all(row["date"] for row in rows)
    machine.write_csv(path, [{"part": "c"}])
    assert [row["part"] for row in machine.read_csv(path)] == ["c"]


def test_a_row_of_words_has_the_spread_over_its_turns(benchmark, monkeypatch):
    words, machine = benchmark("words"), benchmark("machine")
    took = iter([(10, 2.0), (30, 6.0), (45, 9.0), (12, 4.0)])  # the second turn begins with the other program
    monkeypatch.setattr(machine, "spent", lambda call: (call(), machine.Spent(*next(took))))
    worth = {"one": iter([10.0, 14.0]), "two": iter([20.0, 20.0])}
    monkeypatch.setattr(words, "quality", lambda name, _: dict.fromkeys(words.MEASURES, next(worth[name])))
    part = {name: words.Side(lambda task: None, lambda task, ready, n=name: (n, None)) for name in worth}
    one, two = words.measured("x", part, words.Task(Path(), 1, 1, 1), 2, 100)
    assert (one["ratio_cpu"], one["ratio_cpu_low"], one["ratio_cpu_high"]) == (1, 1, 1)
    assert (two["ratio_cpu"], two["ratio_cpu_low"], two["ratio_cpu_high"]) == (2.62, 2.25, 3)
    assert (one["wordsim"], one["wordsim_sd"]) == (12, 2.83)
    assert (two["simlex"], two["simlex_sd"]) == (20, 0)


def test_cpu_seconds_count_this_process(machine):
    total, took = machine.spent(lambda: sum(range(2_000_000)))
    assert total == 1_999_999_000_000
    assert took.cpu > 0 and took.wall > 0


@pytest.mark.parametrize(("value", "printed"), [(1234.56, 1235.0), (0.0123456, 0.01235), (10.0, 10.0)])
def test_numbers_are_rounded_to_what_they_are_worth(machine, value, printed):
    assert machine.significant(value) == printed


@pytest.fixture
def benchmark(monkeypatch):
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(BENCHMARKS)):
            del sys.modules[name]


ENGINES = """
import numpy as np
from pathlib import Path
from types import SimpleNamespace as Record
def load(place, threads):
    print("noise on the pipe")
    def encode(texts, rows):
        if rows == 7:
            raise ValueError("seven\\nmore")
        return np.array([[len(text), rows] for text in texts], np.float64)
    return Record(encode=encode, precision="float32")
def absent(place, threads):
    import no_such_library
Place = Path
PEERS = [Record(name="good", load=load, packages=("numpy",)), Record(name="bad", load=absent, packages=())]
"""


@pytest.fixture
def start(benchmark, tmp_path):
    worker = benchmark("peers_worker")
    shutil.copy(BENCHMARKS / "peers_worker.py", tmp_path)
    (tmp_path / "peers.py").write_text(ENGINES, encoding="utf-8")
    running = []

    def begin(name):
        command = [sys.executable, str(tmp_path / "peers_worker.py"), name, str(tmp_path), "1"]
        running.append(worker.Worker(command, os.environ, tmp_path / "log"))
        return running[-1]

    yield worker, begin
    for one in running:
        one.close()


def test_a_worker_gives_vectors_and_errors_in_turn_whatever_its_library_prints(start):
    worker, begin = start
    good = begin("good")
    assert good.precision == "float32" and good.software.startswith("numpy ")
    vectors, took = good.encode(["a", "bcd"], 32)
    assert vectors.tolist() == [[1, 32], [3, 32]]
    assert took.wall > 0 and took.cpu >= 0
    with pytest.raises(worker.PeerError, match=r"^ValueError: seven$"):
        good.encode(["a"], 7)
    assert good.encode(["xy"], 1)[0].tolist() == [[2, 1]]


def test_a_library_that_is_not_there_is_said_in_one_line(start):
    worker, begin = start
    with pytest.raises(worker.PeerError, match=r"^ModuleNotFoundError: No module named 'no_such_library'$"):
        begin("bad")


def test_operations_of_a_model_by_hand(benchmark):
    config = {"hidden_size": 2, "intermediate_size": 3, "num_hidden_layers": 2}
    # A token: 4 x (2 x 2 x 2) + 2 x (2 x 2 x 3) = 56 in a layer; a text of n: 2 x (2 n n 2) more.
    assert benchmark("peers_peak").model_flops(config, [1, 3]) == 2 * (4 * 56 + 8 * (1 + 9))


def test_batches_hold_their_budget_and_padding_is_counted(benchmark):
    batching = benchmark("batching")
    policy = batching.Policy(32, "8 to 64, then 16", 1)
    lengths = [3, 9, 16, 7]
    assert list(policy.batches(lengths, 256)) == [(16, [2, 1]), (8, [3, 0])]
    assert batching.padded_part(policy, lengths, 256) == 1 - 35 / 48
    assert [policy.rounded(n, 250) for n in (1, 64, 65, 249)] == [8, 64, 80, 250]
    assert batching.Policy(32, "none", 1).rounded(65, 256) == 65


def test_a_policy_is_compared_with_the_one_in_use_repetition_by_repetition(benchmark):
    batching, machine = benchmark("batching"), benchmark("machine")

    def result(cpu):
        took = machine.Spent(1.0, cpu)
        return batching.Result(took, took, machine.Spent(0.5, cpu), machine.Spent(0.1, cpu / 10), 0.2)

    used, other = batching.Policy(1024, "16", 2), batching.Policy(512, "8", 1)
    rows = [
        batching.row("short", used, [result(2), result(4)], [result(2), result(4)], 10),
        batching.row("short", other, [result(1), result(2)], [result(2), result(4)], 10),
    ]
    assert [row["warm_ratio_cpu"] for row in rows] == [1, 2]
    assert rows[0]["ahead_gain_wall"] == 2 and rows[0]["packing_at_most"] == 1.25
    (verdict,) = batching.verdicts(rows, used)
    assert "20.0% of the places are padding" in verdict and "512 tokens, step 8, 1 streams, 2.0" in verdict


def test_an_engine_without_figures_has_a_row_that_says_why(benchmark):
    encode = benchmark("text_encode")
    default, other = encode.PEERS[0], encode.PEERS[1]
    found = {default.name: encode.Measured(32), other.name: encode.Measured(32)}
    work = encode.Work(5, [1e9], {"float32": 10.0})
    row = encode.row(encode.Engine(other, None, "not installed"), "short", work, found)
    assert row["status"] == "not installed" and row["ratio_cpu"] == "" and row["engine"] == other.name


def test_the_tables_of_readme_and_docs_are_those_of_the_files(benchmark):
    """`python benchmarks/tables.py` prints them."""
    for page, made in benchmark("tables").TABLES.items():
        text = (BENCHMARKS.parent / page).read_text(encoding="utf-8")
        for table in made:
            assert table() in text, f"{page}: {table.__name__}"


def test_a_question_from_a_shell_has_the_answers_of_the_other_way(minilm, data_folder, tmp_path):
    """The script ends with an error where the ten best are not the same passages."""
    if not (data_folder / "wiki17m" / "wiki17m_docs.txt.bz2").exists():
        pytest.skip("wiki17m is not in the data folder")
    out = tmp_path / "cold_start.csv"
    command = [sys.executable, str(BENCHMARKS / "cold_start.py"), "--quick", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    with out.open(newline="", encoding="utf-8") as file:
        assert [row["program"] for row in csv.DictReader(file)][:2] == [
            "sentence-transformers + numpy",
            "omnivec search",
        ]
