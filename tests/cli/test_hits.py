"""Found passages as a developer reads them: lines as they are, the ones that answer, paths that can be opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnivec import Collection
from omnivec.cli.hits import ROWS, _rows, print_hits
from omnivec.errors import UsageError
from omnivec.types import Hit
from workbench import CommandLine, write_files

CODE = """import os


def first(x):
    return x + 1


def second(path):
    # the tokens that were refreshed
    if os.path.exists(path):
        return path
    return None
"""


def hit(text: str, matches=(), **metadata) -> Hit:
    return Hit("a#0", "a", (0, len(text)), 10, "text", "text", 0.5, text, metadata, tuple(matches))


def shown(capsys, *hits: Hit, **options) -> list[str]:
    print_hits(list(hits), False, **options)
    return capsys.readouterr().out.splitlines()


def test_lines_of_code_are_kept_and_blank_ones_left_out(capsys):
    assert shown(capsys, hit(CODE)) == [
        " 1  0.500  a:10",
        "    import os",
        "    def first(x):",
        "        return x + 1",
        "    def second(path):",
    ]


def test_the_rows_with_the_matches_are_shown_and_counted_from(capsys):
    start = CODE.index("refreshed")
    lines = shown(capsys, hit(CODE, [(start, start + 9)]))
    assert lines[0] == " 1  0.500  a:18" and "    # the tokens that were refreshed" in lines[1]
    assert lines[2:4] == ["        if os.path.exists(path):", "            return path"]
    page = shown(capsys, hit(CODE, [(start, start + 9)], suffix=".html"))
    assert page[0] == " 1  0.500  a:10"  # a page's text has other lines than its source


def test_matches_are_marked_and_nothing_else(capsys, monkeypatch):
    monkeypatch.setattr("omnivec.cli.hits.click.echo", lambda text, **_: print(text))
    [_, line] = shown(capsys, hit("a red\x1b[2J fox", [(2, 5)]))
    assert line == "    a " + click.style("red", bold=True, fg="yellow") + "\\x1b[2J fox"


@given(st.text(alphabet="ab \n\té北", max_size=400), st.integers(8, 40))
def test_rows_show_all_of_a_text_but_blanks(text, width):
    rows = list(_rows(text, width))
    assert all(row.end - row.start <= width and text[row.start : row.end].strip() for row in rows)
    assert "".join("".join(text[row.start : row.end].split()) for row in rows) == "".join(text.split())
    assert all(text[: row.start].count("\n") == row.line for row in rows)


def test_a_long_line_is_shown_around_its_match(capsys):
    text = "word " * 400 + "needle " + "word " * 400
    lines = shown(capsys, hit(text, [(2000, 2006)]))
    assert any("needle" in line for line in lines[1:]) and len(lines) == 1 + ROWS


@pytest.fixture
def files(omni: CommandLine, tiny: Path) -> CommandLine:
    long = "\n\n".join(f"the fox number {i} " + "walks and walks " * 30 for i in range(8))
    write_files(
        omni.folder,
        {"docs/a/long.md": long, "docs/a/short.txt": "a fox rests\n", "docs/b/other.txt": "foxes sleep\n"},
    )
    assert omni("index", "docs", "-m", tiny).code == 0
    return omni


def test_paths_can_be_opened_from_where_one_stands(files: CommandLine) -> None:
    deep = files.folder / "docs" / "b"
    for where in (files.folder, deep, files.folder.parent):
        arguments = ("-c", str(files.folder / ".omnivec"), "--mode", "text")
        found = files("search", "sleep", *arguments, cwd=where)
        [place] = [line.split()[2] for line in found.out.splitlines() if not line.startswith("    ")]
        assert (where / place.rpartition(":")[0]).read_text() == "foxes sleep\n"
        assert (
            files("search", "sleep", *arguments, "--json", cwd=where).rows[0]["document"]
            == "docs/b/other.txt"
        )


def test_only_files_in_a_folder_and_only_the_best_of_each_document(files: CommandLine) -> None:
    for mode in ("vector", "text", "hybrid"):
        everything = files("search", "fox", "--mode", mode, "-k", "200", "--json").rows
        some = files("search", "fox", "--mode", mode, "-k", "200", "--json", "--under", "docs/a").rows
        assert {row["document"] for row in some} == {"docs/a/long.md", "docs/a/short.txt"}
        if mode != "hybrid":  # where ranks are those among what is allowed
            inside = [row["id"] for row in everything if row["document"].startswith("docs/a/")]
            assert inside == [row["id"] for row in some]
        assert len(some) > 4
        single = files("search", "fox", "--mode", mode, "-k", "3", "--json", "--per-document").rows
        firsts = {}
        for row in everything:
            firsts.setdefault(row["document"], row["id"])
        assert [row["id"] for row in single] == list(firsts.values())
    one = files("search", "fox", "--json", "--under", "b/other.txt", cwd=files.folder / "docs")
    assert [row["document"] for row in one.rows] == ["docs/b/other.txt"]
    nothing = files("search", "fox", "--under", "doc")
    assert (nothing.code, len(nothing.errors)) == (2, 1) and "indexed paths: docs" in nothing.err


def test_the_default_is_both_for_words_and_vectors_for_the_rest(files: CommandLine, tiny: Path) -> None:
    with Collection(files.folder / ".omnivec", create=False) as notes:
        ids = {mode: [hit.id for hit in notes.search("foxes", 9, mode=mode)] for mode in (None, "hybrid")}
        assert ids[None] == ids["hybrid"]
        [best, *_] = notes.search("foxes sleeping", 1)
        assert [best.text[a:b] for a, b in best.matches] == ["foxes", "sleep"]
        assert notes.search("foxes", 1, mode="vector")[0].matches == ()
        unknown: Any = "fuzzy"
        with pytest.raises(UsageError, match="none of vector, text, hybrid"):
            notes.search("foxes", mode=unknown)


@pytest.mark.parametrize(
    ("text", "query", "marked"),
    [
        ("The foxes were running", "a fox runs", ["foxes", "running"]),
        ("Un CAFÉ à Zürich", "cafe zurich", ["CAFÉ", "Zürich"]),
        ("修改youer服务端的端口", "youer 端口", ["youer", "端口"]),
        ("発売は２０２４年です", "2024", ["２０２４"]),
        ("use os.path.join, not path alone", "os.path", ["os.path", "path"]),
        ("C++ and C", "C++", ["C++", "C"]),
        ("東京都の天気", "東京都の天候", ["東京都の天"]),
        ("nothing here", "else", []),
    ],
)
def test_what_words_match(tmp_path: Path, tiny: Path, text: str, query: str, marked: list[str]) -> None:
    with Collection(tmp_path / "a.omni", tiny) as notes:
        notes.add([text, "something else altogether"])
        found = [hit for hit in notes.search(query, 5, mode="hybrid") if hit.text == text]
        assert [found[0].text[a:b] for a, b in found[0].matches] == marked
