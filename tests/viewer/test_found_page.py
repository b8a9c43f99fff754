"""The page of a search, read back by a parser: what it shows, what it links to, and that nothing else gets in."""

from __future__ import annotations

import base64
import io
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from omnivec.errors import OmnivecError, UsageError
from omnivec.types import Hit
from omnivec.viewer.page import page, write_page

VOID = {"meta", "img"}
KNOWN = {
    "a",
    "bdi",
    "details",
    "div",
    "h1",
    "h2",
    "header",
    "html",
    "img",
    "li",
    "main",
    "meta",
    "ol",
    "p",
    "span",
}
KNOWN |= {"style", "summary", "title"}


class Reader(HTMLParser):
    """Tags with their attributes, and the text below each kind of tag or class."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[tuple[str, str]] = []
        self.feed(source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append((tag, dict(attrs).get("class") or tag))
            self.texts.setdefault(self._open[-1][1], []).append("")

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag

    def handle_data(self, data):
        for kind in {kind for _, kind in self._open}:
            self.texts[kind][-1] += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def read(source: str) -> Reader:
    """A page that was checked: only known tags, no way out to the network."""
    reader = Reader(source)
    assert {tag for tag, _ in reader.tags} <= KNOWN
    policy = [tag for tag in reader.of("meta") if tag.get("http-equiv") == "Content-Security-Policy"]
    assert policy[0]["content"].startswith("default-src 'none'")
    assert all(image["src"].startswith("data:image/") for image in reader.of("img"))
    assert all(link["href"].startswith("file:///") for link in reader.of("a"))
    assert all(
        set(attributes) <= {"class", "dir", "href"} for tag, attributes in reader.tags if tag in ("a", "p")
    )
    assert (
        "url(" not in source and "@import" not in source and "http:" not in source and "https:" not in source
    )
    return reader


def hit(document: str, modality: str = "text", **more) -> Hit:
    facts = {"span": (0, 0), "line": None, "space": modality, "score": 0.5, "text": "", "metadata": {}}
    return Hit(**({"id": f"{document}#0", "document": document, "modality": modality} | facts | more))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name, colour in {"red.png": "red", "blue.jpg": "blue"}.items():
        Image.new("RGB", (512, 256), colour).save(tmp_path / name)
    return tmp_path


def test_all_that_was_found_is_there(photos):
    (photos / "notes.md").write_text("Red\n")
    hits = [
        hit("red.png", "image", score=0.75, metadata={"width": 512, "height": 256}),
        hit("notes.md", line=7, text="One line.\nAnother.", score=0.25),
        hit("blue.jpg", "image", score=-1.5, space="pictures"),
        hit("a record", text="From memory."),
    ]
    reader = read(page("something red", hits, photos.joinpath))
    assert reader.texts["h1"] == ["something red"] and reader.texts["title"] == ["something red - omnivec"]
    assert reader.texts["h2"] == ["Pictures", "Passages"] and "4 found" in reader.texts["header"][0]
    assert reader.texts["name"] == ["red.png", "blue.jpg", "notes.md:7", "a record"]
    assert reader.texts["facts"] == ["10.750image512 × 256", "3-1.500pictures", "20.250text", "40.500text"]
    assert reader.texts["text"] == ["One line.\nAnother.", "From memory."]
    linked = [photos / "red.png"] * 2 + [photos / "blue.jpg"] * 2 + [photos / "notes.md"]
    assert [link["href"] for link in reader.of("a")] == [path.as_uri() for path in linked]
    shown = [Image.open(io.BytesIO(base64.b64decode(i["src"].partition(",")[2]))) for i in reader.of("img")]
    assert [image.size for image in shown] == [(256, 128)] * 2
    assert shown[0].getpixel((9, 9)) == (255, 0, 0) and np.asarray(shown[1])[9, 9, 2] > 250
    assert [(i["width"], i["height"], i["alt"]) for i in reader.of("img")] == [
        ("256", "128", "red.png"),
        ("256", "128", "blue.jpg"),
    ]


def test_the_best_hit_says_which_list_is_first(photos):
    mixed = [hit("a", text="A."), hit("red.png", "image")]
    assert read(page("q", mixed, photos.joinpath)).texts["h2"] == ["Passages", "Pictures"]
    assert "h2" not in read(page("q", mixed[:1], photos.joinpath)).texts


def test_an_image_that_was_asked_for_is_shown(photos):
    reader = read(page(photos / "red.png", [], photos.joinpath))
    assert reader.texts["h1"] == ["red.png"] and "Nothing was found." in reader.texts["picture"][0]
    assert [image["alt"] for image in reader.of("img")] == ["red.png"]


def test_nothing_found_is_a_page_too(tmp_path):
    source = page("a query", [], tmp_path.joinpath)
    assert read(source).texts["header"][0].split("\n") == ["", "a query", "Nothing was found.", ""]
    assert len(source) < 4096
    assert "prefers-color-scheme: dark" in source


def test_a_file_that_is_gone_or_damaged_costs_only_its_thumbnail(photos):
    (photos / "blue.jpg").write_bytes((photos / "blue.jpg").read_bytes()[:300])
    names = ["gone.png", "blue.jpg", "red.png", "n" * 300, "with\0zero"]
    reader = read(page("q", [hit(name, "image") for name in names], photos.joinpath))
    assert len(reader.of("img")) == 1 and len(reader.texts["why"]) == 4
    assert reader.texts["why"][0] == "does not exist; check the spelling, or whether its disk is mounted"
    assert reader.texts["why"][1].startswith("damaged or cut off")
    assert [link["href"] for link in reader.of("a")] == [
        (photos / name).as_uri() for name in ("blue.jpg", "blue.jpg", "red.png", "red.png")
    ]


NASTY = "<script>alert(1)</script>\"'&amp;\n\u202egpj.exe\u2066\u200f\x1b[31m\x00\udcff"
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=30), st.text(min_size=1, max_size=30))
@example(NASTY, NASTY)
@example("{title}{0}%s", "]]>--><!--</style></title>")
def test_nothing_that_is_shown_becomes_markup(text, name):
    hits = [hit(name, text=text, space=name), hit(name, "image", metadata={"width": 3, "height": 4})]
    source = page(text, hits, Path("/nowhere at all").joinpath)
    assert not CONTROLS.search(source)
    reader = read(source)
    assert sum(tag == "li" for tag, _ in reader.tags) == 2
    assert [a for tag, a in reader.tags if tag == "span" and set(a) - {"class"}] == []
    seen = CONTROLS.sub(lambda c: c[0].encode("unicode_escape").decode(), text.replace("\r\n", "\n"))
    assert reader.texts["h1"] == [seen] and reader.texts.get("text", [""]) == [seen]
    for shown in (*reader.texts["name"], reader.texts["title"][0]):
        assert not re.search("[\n\t\u061c\u200e\u200f]", shown)


def test_links_lead_to_files_of_any_name(tmp_path):
    names = ['a b"<i>#?%41.txt', "line\nend.txt", "‮exe.txt", os.fsdecode(b"caf\xe9.txt")]
    for name in names:
        (tmp_path / name).write_text("x")
    reader = read(page("q", [hit(name) for name in names], tmp_path.joinpath))
    paths = [unquote_to_bytes(urlsplit(link["href"]).path) for link in reader.of("a")]
    assert paths == [os.fsencode(tmp_path / name) for name in names]
    assert reader.texts["name"] == [names[0], "line\\nend.txt", "\\u202eexe.txt", "caf\\udce9.txt"]


def test_long_texts_open_when_asked_for(tmp_path):
    long, lines = "word " * 200, "line\n" * 6
    reader = read(
        page("q", [hit(str(i), text=t) for i, t in enumerate((long, lines, "short"))], tmp_path.joinpath)
    )
    assert reader.texts["text"] == [long, lines, "short"]
    assert [tag for tag, a in reader.tags if a.get("class") == "text"] == ["summary", "summary", "p"]


def test_written_whole_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / "found.html"
    write_page(target, "ü")
    assert target.read_bytes() == "ü".encode()

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OmnivecError, match=r"found\.html cannot be written: no space is left"):
        write_page(target, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["found.html"]
    assert target.read_bytes() == "ü".encode()


def test_a_wrong_place_is_said_in_one_line(tmp_path):
    for path, why in [
        (tmp_path, "is a folder"),
        (tmp_path / "none" / "a.html", "folder that does not exist"),
        (Path("-"), "not to standard output"),
        (tmp_path / "notes.txt", r"notes\.txt is not the name of a page: give one that ends in \.html"),
    ]:
        with pytest.raises(UsageError, match=why) as caught:
            write_page(path, "x")
        assert "\n" not in str(caught.value)
