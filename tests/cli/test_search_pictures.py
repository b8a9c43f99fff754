"""Found images on the command line: named, shown in a terminal, and written to a page."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from transformers import ViTConfig, ViTModel

import checkpoints
from omnivec import Collection
from omnivec.cli.hits import print_hits
from omnivec.cli.search import pictures
from omnivec.types import Hit
from patience import PATIENCE
from workbench import CommandLine, Done

COLOURS = {"red.png": "red", "orange.png": "orange", "blue.jpg": "blue"}


@pytest.fixture(scope="session")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small random model of images."""
    folder = tmp_path_factory.mktemp("vit")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    config = ViTConfig(**sizes, image_size=32, patch_size=16)
    checkpoints.discriminate(ViTModel(config, add_pooling_layer=False), 0).save_pretrained(folder)
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


@pytest.fixture
def album(omni: CommandLine, tiny: Path, seeing: Path) -> CommandLine:
    """A folder with a collection of three images and a text."""
    for name, colour in COLOURS.items():
        Image.new("RGB", (64, 32), colour).save(omni.folder / name)
    (omni.folder / "fox.txt").write_text("the quick brown fox\n")
    with Collection(omni.folder / ".omnivec", models={"text": tiny, "image": seeing}) as notes:
        notes.add([omni.folder / name for name in (*COLOURS, "fox.txt")])
    return omni


def image_hit(document: str, **metadata: Any) -> Hit:
    return Hit(f"{document}#0", document, (0, 0), None, "image", "image", 0.5, "", metadata)


def test_an_image_is_named_with_its_size(capsys: pytest.CaptureFixture[str]) -> None:
    text = Hit("a.md#0", "a.md", (0, 4), 3, "text", "text", 0.25, "Text.", {"width": 9, "height": 9})
    print_hits([image_hit("a/\x1bcat.jpg", width=640, height=480), image_hit("b.png"), text], False)
    assert capsys.readouterr().out.splitlines() == [
        " 1  0.500  a/\\x1bcat.jpg  640 x 480",
        " 2  0.500  b.png",
        " 3  0.250  a.md:3",
        "    Text.",
    ]


def test_a_thumbnail_follows_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (2, 4), (255, 0, 9)).save(tmp_path / "red.png")
    (tmp_path / "bad.png").write_text("no image")
    hits = [image_hit(name) for name in ("red.png", "bad.png", "red.png")]
    print_hits(hits, False, picture=pictures(tmp_path.joinpath, wanted=True))
    row = "    \x1b[38;2;255;0;9;48;2;255;0;9m▀▀\x1b[0m"
    shown = capsys.readouterr().out.splitlines()
    why = f"    cannot be shown: {tmp_path}/bad.png: not an image; "
    assert shown[3] == " 2  0.500  bad.png" and shown[4].startswith(why[:-2])
    assert shown[:3] + shown[5:] == [" 1  0.500  red.png", row, row, " 3  0.500  red.png", row, row]


def test_no_terminal_no_thumbnails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLORTERM", "truecolor")
    Image.new("RGB", (2, 4)).save(tmp_path / "red.png")
    assert pictures(tmp_path.joinpath)(image_hit("red.png")) == ""
    assert pictures(tmp_path.joinpath, wanted=True)(image_hit("red.png")) != ""


def test_a_query_or_an_image(omni: CommandLine) -> None:
    for arguments, given in [((), "none is"), (("a fox", "--image", "fox.jpg"), "more than one is")]:
        done = omni("search", *arguments)
        assert (done.code, done.out) == (2, "")
        assert (
            done.errors[-1]
            == f"Error: give one of QUERY, --file FILE, --image FILE, --audio FILE, --vector FILE or "
            f"--queries FILE: {given} given"
        )
    empty = omni("search", " ")
    assert (empty.code, empty.errors[-1]) == (2, "Error: QUERY is empty: give a text to search for")


def test_search_by_an_image(album: CommandLine) -> None:
    found = album("search", "--image", "red.png", "--json")
    assert found.rows[0]["document"] == "red.png" and len(found.rows) == 3
    assert {hit["modality"] for hit in found.rows} == {"image"}
    assert found.rows[0]["score"] == pytest.approx(1, abs=1e-5)
    assert found.errors == []  # that no image is sought among the texts is said where nothing is found
    with Collection(album.folder / ".omnivec", readonly=True) as notes:
        [unreached] = [f"omnivec: {line}" for line in notes.unreached("image")]
    nothing = album("search", "--image", "red.png", "--where", "suffix=.txt")
    assert nothing.out == "" and nothing.errors[-1] == unreached
    assert album("collection", "status").errors.count(unreached) == 1
    shown = album("search", "--image", "red.png", "-k", "1")
    assert shown.out == " 1  1.000  red.png  64 x 32\n"
    by_text = album("search", "fox", "-k", "1")
    assert by_text.out.splitlines()[0].endswith("fox.txt:1") and by_text.err == ""
    assert album("search", "fox", "--mode", "text").err == ""


def test_what_is_no_image_is_refused_in_one_line(album: CommandLine) -> None:
    for name, why in [("fox.txt", "not an image"), ("none.png", "does not exist"), (".", "a folder")]:
        done = album("search", "--image", name)
        assert (done.code, done.out) == (1, "") and len(done.errors) == 1 and why in done.err


def test_a_page_is_written_beside_the_results(album: CommandLine) -> None:
    done = album("search", "--image", "orange.png", "--html", "found.html", "-k", "2")
    assert done.code == 0 and len(done.out.splitlines()) == 2
    assert done.errors[-1] == "omnivec: written to found.html"
    content = (album.folder / "found.html").read_text()
    assert content.count("<img ") == 3 and (album.folder / "orange.png").as_uri() in content
    (album.folder / "mine.html").write_text("<p>a page of my own</p>")
    assert album("index", "mine.html").code == 0
    for name, why in [
        ("none/found.html", "a folder that does not exist"),
        (".", "is a folder"),
        ("-", "a file"),
        ("orange.png", "is not the name of a page"),
        ("mine.html", "is a document of"),
    ]:
        wrong = album("search", "fox", "--html", name)
        assert (wrong.code, wrong.out) == (2, "") and len(wrong.errors) == 1 and why in wrong.err
    assert (album.folder / "mine.html").read_text() == "<p>a page of my own</p>"


def in_terminal(album: CommandLine, *arguments: str, **variables: str) -> Done:
    """A command whose standard output is a terminal."""
    ours, theirs = pty.openpty()
    names = ("TERM", "TERM_PROGRAM", "COLORTERM", "NO_COLOR")
    inherited = {key: value for key, value in album.environment().items() if key not in names}
    started = subprocess.Popen(
        album.command(*arguments),
        cwd=album.folder,
        env={**inherited, **variables},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    pieces = []
    while True:
        try:
            pieces.append(os.read(ours, 65536))
        except OSError:  # the other end is closed
            break
        if not pieces[-1]:
            break
    os.close(ours)
    said = started.communicate(timeout=PATIENCE)[1].decode()
    return Done(started.returncode, b"".join(pieces).decode().replace("\r\n", "\n"), said)


@pytest.mark.parametrize(
    ("variables", "option", "shown"),
    [
        ({"TERM": "xterm-kitty"}, (), r" {4}\x1b_Ga=T,[^\n]*\x1b\\\n"),
        ({"TERM": "xterm", "TERM_PROGRAM": "iTerm.app"}, (), r" {4}\x1b\]1337;File=[^\n]*\x07\n"),
        (
            {"TERM": "xterm", "COLORTERM": "truecolor"},
            (),
            r"( {4}\x1b\[38;2;254;0;0;48;2;254;0;0m▀{32}\x1b\[0m\n){8}",
        ),
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, ("--no-thumbnails",), ""),
        ({"TERM": "xterm"}, (), ""),
    ],
)
def test_in_a_terminal(
    album: CommandLine, variables: dict[str, str], option: tuple[str, ...], shown: str
) -> None:
    Image.new("RGB", (64, 32), (254, 0, 0)).save(
        album.folder / "red.png"
    )  # changed since: it is shown as it is
    done = in_terminal(album, "search", "--image", "red.png", "-k", "1", *option, **variables)
    assert done.code == 0, done.err
    first, _, rest = done.out.partition("\n")
    assert "red.png" in first and first.endswith("  64 x 32")
    assert re.fullmatch(shown, rest)
