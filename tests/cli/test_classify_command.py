"""`omnivec classify`: tables and JSON, one bad file, what cannot be meant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import photographs
from omnivec.tasks.classify import classify
from workbench import CommandLine, loaded, write_files, write_pictures

LABELS = ["quick fox", "lazy dog", "engine"]


@pytest.fixture
def files(omni: CommandLine) -> CommandLine:
    texts = {"docs/a.txt": "the quick brown fox", "docs/b.md": "the engine compiles", "docs/.c.txt": "a dog"}
    write_files(omni.folder, {**texts, "docs/data.bin": "x"})
    return omni


def test_json_holds_what_classify_gives(files: CommandLine, tiny: Path) -> None:
    done = files("classify", "-l", ",".join(LABELS), "docs", "-m", tiny, "--top", "3", "--json")
    assert done.code == 0, done.err
    assert [row["file"] for row in done.rows] == ["docs/a.txt", "docs/b.md"]
    right = classify(loaded(tiny), ["the quick brown fox", "the engine compiles"], LABELS).probabilities
    for row, expected in zip(done.rows, right, strict=True):
        assert [found["label"] for found in row["labels"]] == [LABELS[i] for i in np.argsort(-expected)]
        got = [found["probability"] for found in row["labels"]]
        np.testing.assert_allclose(got, np.sort(expected)[::-1], atol=2e-5)
    assert "with a scale of 20" in done.err and "2 files classified, 0 failed" in done.err
    assert "left out: no text by their names: 1 .bin" in done.err


def test_a_table_labels_from_a_file_and_a_threshold(files: CommandLine, tiny: Path) -> None:
    (files.folder / "labels.txt").write_text("\ufefffox, quick\n\nengine\n", encoding="utf-8")
    done = files("classify", "docs", "docs/a.txt", "--labels-file", "labels.txt", "-m", tiny, "--hidden")
    assert done.code == 0, done.err
    header, *lines = done.out.splitlines()
    assert header.split() == ["file", "label", "probability"]
    assert [line.split()[0] for line in lines] == ["docs/.c.txt", "docs/a.txt", "docs/b.md"]  # each once
    assert all(0.5 <= float(line.split()[-1]) <= 1 for line in lines)
    named = ("classify", "docs", "-l", "a,b,c", "-m", tiny, "--scale", "0.001")
    none = files(*named, "--threshold", "0.9")
    assert [line.split() for line in none.out.splitlines()[1:]] == [["docs/a.txt", "-"], ["docs/b.md", "-"]]
    every = files(*named, "--threshold", "0.1", "--json").rows
    assert [len(row["labels"]) for row in every] == [3, 3]


def test_one_bad_file_costs_only_itself(files: CommandLine, tiny: Path) -> None:
    (files.folder / "docs" / "empty.txt").write_text("")
    done = files("classify", "-l", "fox,dog", "docs", "none.txt", "-m", tiny, "--json")
    assert done.code == 3
    assert [row["file"] for row in done.rows] == ["docs/a.txt", "docs/b.md"]
    assert sum("left out: 1 empty" in line for line in done.errors) == 1 and "docs/empty.txt" not in done.err
    assert sum("none.txt: does not exist" in line for line in done.errors) == 1
    again = files("classify", "-l", "fox,dog", "docs", "-m", tiny, "--json")
    assert again.code == 0 and "0 failed" in again.err
    named = files("classify", "-l", "fox,dog", "docs/empty.txt", "docs/a.txt", "-m", tiny, "--json")
    assert named.code == 3 and "docs/empty.txt" in named.err


def test_images_need_a_joint_model(omni: CommandLine, tiny: Path) -> None:
    photographs.rgb("coffee").save(omni.folder / "coffee.png")
    done = omni("classify", "-l", "cup,cat", "coffee.png")
    assert (done.code, done.out) == (2, "")
    assert done.err.count("\n") == 1 and "--model hf:openai/clip-vit-base-patch32" in done.err
    mixed = omni("classify", "-l", "cup,cat", ".", "-m", tiny)
    assert mixed.code == 0 and "left out: no text by their names: 1 .png" in mixed.err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "no labels: give --labels"),
        (["-l", "fox"], "one label, 'fox'"),
        (["-l", "fox,,dog"], "label 2 of 3 is empty"),
        (["-l", "fox,dog,fox"], "given twice"),
        (["-l", "fox,dog", "-t", "a photo"], "has no {}"),
        (["--labels-file", "none.txt"], "none.txt cannot be read: does not exist"),
        (["-l", "fox,dog", "--top", "0"], "--top"),
        (["-l", "fox,dog", "--threshold", "2"], "--threshold"),
        (["-l", "fox,dog", "--scale", "0"], "--scale"),
    ],
)
def test_what_cannot_be_meant(files: CommandLine, tiny: Path, arguments: list[str], part: str) -> None:
    done = files("classify", "docs", "-m", tiny, *arguments)
    assert (done.code, done.out) == (2, "")
    assert part in done.err and "fault" not in done.err


def test_an_image_among_texts_says_which_models_read_it(files: CommandLine, tiny: Path) -> None:
    write_pictures(files.folder / "pictures", 1)
    done = files("classify", "-l", "fox,dog", "docs/a.txt", "pictures/p000.png", "-m", tiny)
    assert done.code == 3
    [line] = [line for line in done.errors if "p000.png" in line]
    why = "an image by its name, but this model reads only texts; use a model of images, or of both"
    assert line == f"omnivec: pictures/p000.png: {why}"
