"""What all commands keep to: JSON that parses, exit codes, one line for an error, nothing heavy that is not needed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from omnivec import Collection
from patience import PATIENCE
from workbench import CommandLine, loaded, prose, write_files

PROBE = """
import os, sys
HEAVY = ("torch", "transformers", "sentence_transformers", "huggingface_hub", "rich", "pyarrow", "openvino", "numpy",
         "tokenizers", "scipy")
def leave(code, leave=os._exit):
    print("LOADED", *sorted(name for name in HEAVY if name in sys.modules), file=sys.stderr, flush=True)
    leave(code)
os._exit = leave
"""


@pytest.fixture
def project(omni: CommandLine, tiny: Path) -> CommandLine:
    """A folder with a collection of three files."""
    write_files(
        omni.folder / "docs",
        {
            "fox.txt": "the quick brown fox\n",
            "dog.md": "# the lazy dog\n\nsleeps\n",
            "new.rst": prose(3, 200),
        },
    )
    with Collection(omni.folder / ".omnivec", model=tiny) as notes:
        notes.sync(omni.folder / "docs")
    return omni


def loaded_by(project: CommandLine, *arguments: str) -> set[str]:
    done = project(*arguments, before=PROBE)
    assert done.code == 0, done.err
    [line] = [line for line in done.errors if line.startswith("LOADED")]
    return set(line.split()[1:])


def test_what_is_not_needed_is_not_loaded(project: CommandLine) -> None:
    heavy = {"torch", "transformers", "sentence_transformers", "huggingface_hub", "rich", "pyarrow", "scipy"}
    searching = loaded_by(project, "search", "fox")
    assert "openvino" in searching and not searching & heavy
    assert not loaded_by(project, "search", "fox", "--mode", "text") & (heavy | {"openvino", "tokenizers"})
    assert not loaded_by(project, "index", "docs") & (heavy | {"openvino"})
    for arguments in (
        ("--help",),
        ("--version",),
        ("search", "--help"),
        ("index", "--help"),
        ("embed", "--help"),
    ):
        assert not loaded_by(project, *arguments) & (heavy | {"openvino"}), arguments
    for arguments in (("collection", "status"), ("collection", "list"), ("models",)):
        assert not loaded_by(project, *arguments) & (heavy | {"openvino"}), arguments


def test_json_everywhere(project: CommandLine, tiny: Path) -> None:
    write_files(project.folder / "docs", {"late.txt": "a late graph\n"})
    (project.folder / "docs" / "bad.txt").write_bytes(b"caf\xe9")
    indexed = project("index", "docs", "--json")
    assert indexed.code == 3
    *events, last = indexed.rows
    assert {event["status"] for event in events} == {"new", "failed"}
    assert set(last["summary"]) >= {"new", "changed", "unchanged", "removed", "failed", "passages", "seconds"}
    for mode in ("vector", "text", "hybrid"):
        hits = project("search", "fox graph", "--json", "--mode", mode).rows
        wanted = {
            "id",
            "document",
            "span",
            "span_unit",
            "line",
            "modality",
            "space",
            "score",
            "text",
            "metadata",
        }
        assert hits and all(set(hit) == wanted for hit in hits)
    assert project("search", "zebra", "--mode", "text", "--json").rows == []
    [status] = project("collection", "status", "--check", "--json").rows
    assert (status["documents"], status["problems"], status["roots"]) == (4, [], ["docs"])
    [space] = status["spaces"]
    assert status["vectors"] == {"text": status["passages"]}
    assert (space["space"], space["model"], space["dim"]) == ("text", str(tiny), 32)
    listed = project("collection", "list", "--json").rows
    assert [row["document"] for row in listed] == [
        "docs/dog.md",
        "docs/fox.txt",
        "docs/late.txt",
        "docs/new.rst",
    ]
    assert sum(row["passages"] for row in listed) == status["passages"]
    removed = project("collection", "remove", "docs/fox.txt", "docs/none.txt", "--json")
    assert removed.code == 3
    assert removed.rows == [{"document": "docs/fox.txt", "status": "removed"}]
    assert removed.errors == ["omnivec: no document 'docs/none.txt'"]
    [card] = project("info", str(tiny), "--json").rows
    assert (card["dim"], card["family"], card["max_length"]) == (32, "bert", 96)
    models = project("models", "--json").rows
    assert "all-MiniLM-L6-v2" in {row["model"] for row in models}


def test_for_people(project: CommandLine) -> None:
    found = project("search", "lazy dog", "-k", "2", "--mode", "text")
    assert found.code == 0
    assert re.match(r" 1  \d+\.\d{3}  docs/dog\.md:1\n    # the lazy dog\n    sleeps\n", found.out), found.out
    nothing = project("search", "zebra", "--mode", "text")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "omnivec: nothing found\n")
    filtered = project("search", "dog", "-w", "suffix=.xyz")
    assert (filtered.code, filtered.err) == (0, "omnivec: nothing found that passes the filter\n")
    status = project("collection", "status", "--check")
    assert "documents       3\n" in status.out and "check           sound\n" in status.out
    listed = project("collection", "list", "-w", "suffix=.md")
    assert [line.split()[0] for line in listed.out.splitlines()] == ["document", "docs/dog.md"]
    under = project("collection", "remove", "--under", "docs")
    assert (under.code, under.out) == (0, "3 documents removed\n")
    assert project("collection", "list").out.splitlines() == ["document  passages  cut off"]
    again = project("collection", "remove", "--under", "docs")
    assert (again.code, again.out) == (3, "0 documents removed\n")
    assert again.err == f"omnivec: no document has a file in {project.folder / 'docs'}\n"
    empty = project("search", "dog")
    way_out = "has no documents yet; add some with `omnivec index PATH`"
    assert (empty.code, empty.err) == (
        0,
        f"omnivec: nothing found: {project.folder / '.omnivec'} {way_out}\n",
    )


def test_looking_after_a_collection(project: CommandLine) -> None:
    write_files(project.folder / "docs", {"late.md": "a late fox\n"})
    again = project("index")
    assert again.code == 0 and again.out.startswith("1 new, 0 changed, 3 unchanged, 0 removed"), again.err
    for name in ("fox.txt", "dog.md", "late.md"):
        assert project("index", f"docs/{name}").code == 0
    roots = next(
        line for line in project("collection", "status").out.splitlines() if line.startswith("roots")
    )
    assert roots.split(maxsplit=1)[1] == "4: docs, docs/dog.md, docs/fox.txt and 1 more"
    fast, deep = project("collection", "check").out, project("collection", "check", "--deep").out
    assert fast.startswith(f"{project.folder / '.omnivec'}: sound (fast check: ") and "; --deep does" in fast
    assert deep.startswith(f"{project.folder / '.omnivec'}: sound (deep check: ")
    assert project("collection", "backup", "copy.omni").out == "4 documents copied to copy.omni\n"
    assert project("collection", "backup", "copy.omni").code == 1
    assert project("collection", "remove", "docs/late.md").code == 0
    refused = project("collection", "restore", "copy.omni")
    assert refused.code == 1 and "nothing is replaced" in refused.err
    restored = project("collection", "restore", "copy.omni", "--aside")
    assert restored.code == 0 and restored.out.endswith(".omnivec.before-restore-1\n"), restored.err
    assert "docs/late.md" in project("collection", "list").out
    assert project("collection", "vacuum").code == 0
    mixed = project("index", "docs", "-c", ".")
    assert mixed.code == 1 and "holds other files" in mixed.err and "such as" in mixed.err
    nowhere = project("index", "-c", "new.omni")
    assert nowhere.code == 2 and "name files or folders" in nowhere.err
    typo = project("search", "fox", "-w", "sufix==.md")
    assert typo.code == 0 and "no document has the field 'sufix'; there are: suffix, " in typo.err


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        ("suffix==.txt", {"docs/fox.txt"}),
        ("name^=fox", {"docs/fox.txt"}),
        ("name*=o", {"docs/fox.txt", "docs/dog.md"}),
        ("suffix=.txt", {"docs/fox.txt"}),
        ("size<30", {"docs/fox.txt", "docs/dog.md"}),
        ("name!=dog.md", {"docs/fox.txt", "docs/new.rst"}),
        ('{"suffix": {"$in": [".md", ".rst"]}}', {"docs/dog.md", "docs/new.rst"}),
        ('{"path": "docs/fox.txt"}', {"docs/fox.txt"}),
    ],
)
def test_filters(project: CommandLine, where: str, wanted: set[str]) -> None:
    for mode in ("vector", "hybrid"):
        rows = project("search", "fox dog graph", "-k", "50", "-w", where, "--mode", mode, "--json").rows
        assert {row["document"] for row in rows} == wanted
    both = project("search", "fox", "-w", where, "-w", "suffix=.md", "--json").rows
    assert {row["document"] for row in both} == wanted & {"docs/dog.md"}


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["search"],
        ["search", "a", "b"],
        ["search", "a", "-k", "0"],
        ["search", "a", "-k", "many"],
        ["search", "a", "--mode", "fuzzy"],
        ["search", "a", "-w", "year"],
        ["search", "a", "-w", "{"],
        ["search", "a", "-w", '{"a": {"$foo": 1}}'],
        ["search", "a", "--no-such-option"],
        ["index", "docs", "--max-size", "0"],
        ["embed"],
        ["collection"],
        ["collection", "remove"],
        ["collection", "polish"],
        ["info", "a", "b"],
        ["info", "--engine", "abacus"],
    ],
)
def test_wrong_usage_is_exit_code_2(project: CommandLine, arguments: list[str]) -> None:
    done = project(*arguments)
    assert done.code == 2, (done.out, done.err)
    assert done.err + done.out and "Traceback" not in done.err and "fault" not in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["search", "fox", "-m", "./absent-folder"],
        ["index", "docs", "-m", "./absent-folder"],
        ["embed", "docs/fox.txt", "-m", "./absent-folder"],
        ["info", "./absent-folder"],
        ["info", "docs"],
        ["search", "fox", "-c", "absent"],
    ],
)
def test_what_is_not_there_is_exit_code_1_in_one_line(project: CommandLine, arguments: list[str]) -> None:
    done = project(*arguments)
    assert (done.code, done.out) == (1, ""), done.err
    assert len(done.errors) == 1 and done.err.startswith("omnivec: ") and "fault" not in done.err


def test_which_collection_is_meant(project: CommandLine) -> None:
    deep = project.folder / "docs" / "deep" / "er"
    deep.mkdir(parents=True)
    assert project("search", "fox", "--json", cwd=deep).rows[0]["document"].startswith("docs/")
    elsewhere = CommandLine(project.folder, project.cache, {"OMNIVEC_COLLECTION": "other.omni"})
    assert "other.omni" in elsewhere("search", "fox").err
    assert elsewhere("search", "fox", "-c", ".omnivec").code == 0


def test_texts_of_others_do_not_reach_the_terminal_raw(omni: CommandLine, tiny: Path) -> None:
    """A file may hold escape sequences, and a name may hold a line end."""
    write_files(
        omni.folder / "docs", {"a\nb.txt": "fox \x1b[2J\x1b]0;owned\x07 dog\n北京　東京\n" + "calm " * 500}
    )
    assert omni("index", "docs", "-m", tiny).code == 0
    for arguments in ((), ("--whole",)):
        done = omni("search", "fox", "-k", "1", "--mode", "text", *arguments)
        assert done.code == 0
        assert "\x1b" not in done.out and "\x07" not in done.out
        assert "docs/a\\nb.txt:1" in done.out.splitlines()[0]
    assert "北京" in omni("search", "北京", "-k", "1", "--mode", "text", "--whole").out
    assert (
        omni("search", "fox", "-k", "1", "--mode", "text", "--json").rows[0]["text"].startswith("fox \x1b[2J")
    )


@pytest.mark.parametrize(
    ("encoding", "variables"),
    [
        ("utf-8", {"LC_ALL": "C"}),
        ("utf-8", {"PYTHONIOENCODING": "ascii"}),  # which click takes for a mistake
        ("cp1252", {"PYTHONIOENCODING": "cp1252"}),
    ],
)
def test_terminals_without_all_letters(
    omni: CommandLine, tiny: Path, encoding: str, variables: dict[str, str]
) -> None:
    write_files(omni.folder / "docs", {"naïve-北京.txt": "café 北京 😀\n"})
    (omni.folder / "docs" / "fremd-ü.txt").write_bytes(b"caf\xe9")
    plain = CommandLine(omni.folder, omni.cache, variables)
    indexed = plain.start("index", "docs", "-m", str(tiny), encoding=encoding)
    out, err = indexed.communicate(timeout=PATIENCE)
    assert indexed.returncode == 3 and "fault" not in err, err
    for arguments in (("search", "café"), ("search", "café", "--json"), ("collection", "list")):
        process = plain.start(*arguments, encoding=encoding)
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0 and out and not err, err
        if "--json" in arguments:
            [row] = [json.loads(line) for line in out.splitlines()]
            assert row["document"] == "docs/naïve-北京.txt"


def test_the_real_model_from_files_to_hits(omni: CommandLine, minilm: Path) -> None:
    write_files(
        omni.folder / "docs",
        {
            "laptop.txt": "This notebook computer costs little and its battery lasts long.\n",
            "tea.md": "# Brewing\n\nPour hot water over the leaves and wait three minutes.\n",
        },
    )
    assert omni("index", "docs", "-m", minilm).code == 0
    for query, wanted in (
        ("cheap portable PC", "docs/laptop.txt"),
        ("how to make a cup of tea", "docs/tea.md"),
    ):
        assert omni("search", query, "-k", "1", "--json").rows[0]["document"] == wanted
    assert loaded(minilm).dim == 384
