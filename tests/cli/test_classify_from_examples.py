"""`omnivec classify --train` and `--probe`: tables and folders, what cannot be used, stored probes, suggestions."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from workbench import WORDS, CommandLine, write_files

FOXES = [f"the quick brown fox {word}" for word in WORDS[:9]]
ENGINES = [f"the engine compiles graph weights {word}" for word in WORDS[:9]]


def table(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.fixture
def files(omni: CommandLine) -> CommandLine:
    """Twelve labelled files in data/, a table of them beside these, and three to label in new/."""
    named = {f"f{i}.txt": text for i, text in enumerate(FOXES[:6])}
    named |= {f"e{i}.txt": text for i, text in enumerate(ENGINES[:6])}
    write_files(omni.folder / "data", named)
    rows = [[name, "fox" if name[0] == "f" else "engine", name[1]] for name in named]
    table(omni.folder / "data" / "labelled.csv", [["file", "label", "speaker"], *rows])
    new = {"a.txt": FOXES[7], "b.txt": ENGINES[7], "c.txt": "the quick engine fox weights"}
    write_files(omni.folder / "new", new)
    return omni


def test_learned_from_a_table_stored_and_used_again(files: CommandLine, tiny: Path) -> None:
    done = files("classify", "--train", "data/labelled.csv", "new", "-m", tiny, "--save", "probe", "--json")
    assert done.code == 0, done.err
    assert [row["file"] for row in done.rows] == ["new/a.txt", "new/b.txt", "new/c.txt"]
    assert [row["labels"][0]["label"] for row in done.rows[:2]] == ["fox", "engine"]
    assert "12 examples: 6 engine, 6 fox" in done.err and "95 % interval" in done.err
    assert "saved to probe" in done.err and "3 files classified, 0 failed" in done.err
    again = files("classify", "--probe", "probe", "new", "--json")
    assert again.code == 0, again.err
    assert again.rows == done.rows
    twice = files("classify", "--train", "data/labelled.csv", "-m", tiny, "--save", "probe")
    assert twice.code == 0 and "accuracy 100.0 %" in twice.out and "saved to probe" in twice.err
    report = files("classify", "--train", "data/labelled.csv", "-m", tiny, "--group", "speaker", "--json")
    [row] = report.rows
    assert row["counts"] == {"engine": 6, "fox": 6} and row["estimate"]["confusion"] == [[6, 0], [0, 6]]
    assert "6 groups, none on both sides" in row["basis"]


def test_learned_from_folders_and_by_another_working_folder(files: CommandLine, tiny: Path) -> None:
    for label in ("fox", "engine"):
        (files.folder / "sorted" / label).mkdir(parents=True)
        for file in (files.folder / "data").glob(f"{label[0]}*.txt"):
            shutil.copy(file, files.folder / "sorted" / label)
    done = files(
        "classify", "--train", "sorted", "new/a.txt", "-m", tiny, "--kind", "knn", "--top", "2", "--json"
    )
    assert done.code == 0, done.err
    assert [one["label"] for one in done.rows[0]["labels"]] == ["fox", "engine"]
    elsewhere = files(
        "classify", "--train", "../data/labelled.csv", "a.txt", "-m", tiny, cwd=files.folder / "new"
    )
    assert elsewhere.code == 0 and elsewhere.out.splitlines()[1].split()[:2] == ["a.txt", "fox"]


def test_a_table_of_texts(files: CommandLine, tiny: Path) -> None:
    rows = [["fox", text] for text in FOXES] + [["engine", text] for text in ENGINES]
    table(files.folder / "texts.csv", [["topic", "review"], *rows])
    how = ("classify", "--train", "texts.csv", "new/a.txt", "-m", tiny)
    unnamed = files(*how)
    assert unnamed.code == 2 and "no column of items by a usual name" in unnamed.err
    done = files(*how, "--column", "review", "--label", "topic", "--texts", "--json")
    assert done.code == 0 and done.rows[0]["labels"][0]["label"] == "fox", done.err
    as_files = files(*how, "--column", "review", "--label", "topic")
    assert as_files.code == 2 and "none of the 18 examples could be used" in as_files.err


def test_one_bad_example_costs_only_itself(files: CommandLine, tiny: Path) -> None:
    lines = (files.folder / "data" / "labelled.csv").read_text(encoding="utf-8").splitlines()
    (files.folder / "data" / "hole.txt").write_text("")
    extra = ["gone.txt,fox,1", "hole.txt,fox,1", "f0.txt,,1", ",fox,1", "f1.txt"]
    (files.folder / "data" / "labelled.csv").write_text("\n".join([*lines, *extra]), encoding="utf-8")
    done = files("classify", "--train", "data/labelled.csv", "-m", tiny)
    assert done.code == 3, done.err
    for part in (
        "data/gone.txt: does not exist",
        "hole.txt",
        "labelled.csv:16: it has no label",
        "labelled.csv:17: file is empty",
        "labelled.csv:18: it has no label",
    ):
        assert sum(part in line for line in done.errors) == 1, (part, done.err)
    assert "12 examples" in done.out and "Traceback" not in done.err


def test_what_to_label_next(files: CommandLine, tiny: Path) -> None:
    how = ("classify", "--train", "data/labelled.csv", "new", "data", "-m", tiny, "--suggest")
    done = files(*how, "2", "--json")
    assert done.code == 0, done.err
    assert len(done.rows) == 2 and "3 files without a label compared, 0 failed" in done.err
    assert all(row["file"].startswith("new/") for row in done.rows)
    assert done.rows[0]["uncertainty"] >= done.rows[1]["uncertainty"]
    shown = files(*how, "9").out.splitlines()
    assert shown[0].split() == ["file", "most", "probable", "uncertainty"] and len(shown) == 4


def test_another_model_is_refused(files: CommandLine, tiny: Path, other: Path) -> None:
    files("classify", "--train", "data/labelled.csv", "-m", tiny, "--save", "probe")
    done = files("classify", "--probe", "probe", "new", "-m", other)
    assert done.code == 1 and "weights differ. Recorded: " in done.err and done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["--train", "none.csv"], 2, "none.csv: it does not exist"),
        (["--train", "new/a.txt"], 2, "give a table"),
        (["--train", "empty.csv"], 2, "it has no rows"),
        (["--train", "head.csv"], 2, "it has no rows"),
        (["--train", "one.csv"], 2, "one label only, 'fox'"),
        (["--train", "damaged.csv"], 2, "damaged.csv"),
        (
            ["--train", "data/labelled.csv", "--label", "class"],
            2,
            "--label class: data/labelled.csv has only file",
        ),
        (["--train", "data/labelled.csv", "--column", "x"], 2, "--column x"),
        (["--train", "data/labelled.csv", "--group", "x"], 2, "--group x"),
        (["--train", "new"], 2, "it has no subfolder with files"),
        (["--train", "data", "--label", "x"], 2, "are for tables"),
        (["--train", "data/labelled.csv", "--save", "data"], 1, "choose another folder"),
        (["--train", "data/labelled.csv", "--suggest", "3"], 2, "name the files to choose from"),
        (["--train", "data/labelled.csv", "--labels", "a,b"], 2, "--labels: only without --train"),
        (["--train", "data/labelled.csv", "--scale", "3"], 2, "--scale: only for --labels"),
        (["--probe", "new", "new"], 1, "holds no probe.json"),
        (["--probe", "nowhere", "new"], 1, "does not exist"),
        (["--probe", "new"], 2, "no PATH"),
        (["--probe", "new", "--train", "data/labelled.csv"], 2, "--probe: only without --train"),
        (["--probe", "new", "new", "--save", "x"], 2, "--save: only for --train"),
        (["--labels", "a,b", "new", "--suggest", "3"], 2, "--suggest: only for --train and --probe"),
        (["--labels", "a,b", "new", "--kind", "knn"], 2, "--kind: only for --train"),
        (["--labels", "a,b"], 2, "no PATH"),
    ],
)
def test_what_cannot_be_meant(
    files: CommandLine, tiny: Path, arguments: list[str], code: int, part: str
) -> None:
    (files.folder / "empty.csv").write_text("")
    (files.folder / "head.csv").write_text("file,label\n")
    (files.folder / "one.csv").write_text("text,label\nfox,fox\ndog,fox\n")
    (files.folder / "damaged.csv").write_text('text,label\n"fox,fox\n')
    done = files("classify", *arguments, "-m", tiny)
    assert (done.code, done.out) == (code, ""), done.err
    assert part in done.err and done.err.count("\n") == 1 and "fault" not in done.err, done.err
    assert not (files.folder / "probe").exists()
