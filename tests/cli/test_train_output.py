"""`omnivec train -o DIR`: a folder that cannot be used is said before any work, and nothing learned is lost to it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from workbench import DROP, CommandLine

pytest.importorskip("numba")

WORDS = "a b c d e f g h\n" * 60
# A recipe that is begun says so: the folder was not looked at in time.
BEGUN = """
import omnivec.training.recipe_registry as recipes
recipes.train = lambda *a, **k: print("training has begun")
"""
FAST = ["--dim", "4", "--epochs", "1", "--min-count", "1", "--threads", "1"]


@pytest.fixture
def text(omni: CommandLine) -> Path:
    place = omni.folder / "text" / "corpus.txt"
    place.parent.mkdir()
    place.write_text(WORDS)
    return place


def make(folder: Path, kind: str) -> str:
    """A target that cannot be used, as it is given on the command line."""
    if kind == "filled":
        (folder / "filled" / "thesis").mkdir(parents=True)
        (folder / "filled" / "data.csv").write_text("1")
        (folder / "filled" / "config.json").write_text("{}")
    elif kind == "file":
        (folder / "file").write_text("1")
    elif kind == "closed/m":
        (folder / "closed").mkdir(mode=0o555)
    elif kind == "loop":
        (folder / "loop").symlink_to("loop")
    return kind


@pytest.mark.skipif(os.name != "posix", reason="links and rights")
@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("filled", "is not empty and holds no model (config.json, data.csv, thesis): choose another folder"),
        (".", "is not empty and holds no model"),
        ("file", "is a file"),
        ("text/corpus.txt/m", "which is a file"),
        ("/", "is the root of the file system"),
        ("closed/m", "cannot be written: permission denied"),
        ("loop", "cannot be written"),
    ],
)
def test_an_unusable_folder_is_said_before_the_training(
    omni: CommandLine, text: Path, kind: str, part: str
) -> None:
    target = make(omni.folder, kind)
    before = {path: path.stat().st_size for path in omni.folder.rglob("*") if path.is_file()}
    done = omni("train", "word2vec", text, "-o", target, *FAST, before=DROP + BEGUN)
    assert done.code in (1, 2) and part in done.err and done.out == "", done
    assert len(done.errors) == 1
    assert {path: path.stat().st_size for path in omni.folder.rglob("*") if path.is_file()} == before


def test_phrases_are_written_to_a_file_that_is_looked_at_first(omni: CommandLine, text: Path) -> None:
    for target, part in (("text", "is a folder"), ("absent/p.txt", "folder that does not exist")):
        done = omni("train", "phrases", text, "-o", target, before=BEGUN)
        assert done.code == 2 and part in done.err and done.out == ""
    assert omni("train", "phrases", text, "-o", "p.txt").code == 0
    assert (omni.folder / "p.txt").is_file()


def test_the_current_folder_and_home_are_folders(omni: CommandLine, text: Path) -> None:
    (omni.folder / "here").mkdir()
    assert omni("train", "word2vec", text, "-o", ".", *FAST, cwd=omni.folder / "here").code == 0
    home = CommandLine(omni.folder, omni.cache, {"HOME": str(omni.folder)})
    assert home("train", "word2vec", text, "--output=~/words", *FAST).code == 0
    for name in ("here", "words"):
        assert (omni.folder / name / "keys.json").is_file()
        assert not [path for path in (omni.folder / name).iterdir() if path.name.startswith(".")]
        card = (omni.folder / name / "README.md").read_text()
        assert "`word2vec`" in card and f"| bytes | {len(WORDS)} |" in card and str(omni.folder) not in card


def test_what_was_learned_is_saved_beside_a_folder_that_was_taken_meanwhile(
    omni: CommandLine, text: Path
) -> None:
    taken = """
import pathlib, omnivec.training.recipe_registry as recipes
whole = recipes.train
def train(*arguments, **options):
    model = whole(*arguments, **options)
    pathlib.Path("words").mkdir()
    pathlib.Path("words/thesis.txt").write_text("mine")
    return model
recipes.train = train
"""
    done = omni("train", "word2vec", text, "-o", "words", *FAST, before=taken)
    assert done.code == 1 and "the trained model is saved to" in done.err
    assert (omni.folder / "words-2" / "keys.json").is_file()
    assert [path.name for path in (omni.folder / "words").iterdir()] == ["thesis.txt"]


def test_a_file_that_is_learned_from_is_no_output(omni: CommandLine, text: Path) -> None:
    done = omni("train", "phrases", text, "-o", text)
    assert done.code == 2 and "is one of the input files" in done.err
    assert text.read_text() == WORDS
