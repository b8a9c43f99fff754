"""`omnivec collection import`: what it prints, exit codes, wrong files, and Ctrl-C in the middle."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from omnivec import Collection
from patience import PATIENCE
from workbench import CommandLine, loaded, prose, whole

NOTES = "notes.omni"
SMALL = "import omnivec.collection.rows_in as r; r.FIRST = r.MOST = 8"
HELD = f"""{SMALL}
import os, time, omnivec.models.embedder
run = omnivec.models.embedder.Embedder.run
calls = []
def held(*arguments, **settings):
    calls.append(1)
    if len(calls) > 4:
        print("held", flush=True)
        time.sleep(1000)
    return run(*arguments, **settings)
omnivec.models.embedder.Embedder.run = held
"""


def write(path: Path, count: int) -> None:
    lines = [json.dumps({"id": f"{i:03}", "text": prose(i), "year": 2000 + i}) for i in range(count)]
    path.write_text("\n".join(lines) + "\n")


def test_rows_come_in_and_are_found(omni: CommandLine, tiny: Path) -> None:
    (omni.folder / "x.csv").write_text(
        'nr,title,body,year,draft\n1,Cats,"a cat, asleep",2024,true\n2,Oil,engine oil,,false\n'
    )
    call = ("collection", "import", "x.csv", "--id", "nr", "--metadata", "title,year", "--metadata", "draft")
    first = omni(*call, "-c", NOTES, "-m", tiny)
    assert (first.code, first.err) == (0, "")
    assert first.out.startswith("2 rows: 2 new, 0 changed, 0 unchanged, 0 failed; ")
    again = omni(*call, "-c", NOTES, "--json")
    [line] = again.rows
    summary = line["summary"]
    assert (summary["rows"], summary["new"], summary["unchanged"], summary["failures"]) == (2, 0, 2, 0)
    listed = omni("collection", "list", "-c", NOTES, "--json").rows
    assert [row["metadata"] for row in listed] == [
        {"title": "Cats", "year": 2024, "draft": True},
        {"title": "Oil", "draft": False},
    ]
    found = omni(
        "search", "engine oil", "-c", NOTES, "--where", "draft=false", "--json", "--mode", "text"
    ).rows
    assert [row["document"] for row in found] == ["2"]


def test_bad_rows_are_named_and_the_others_are_in(omni: CommandLine, tiny: Path) -> None:
    (omni.folder / "x.csv").write_text("id,text\n1,a cat\n2,\n3,a dog\n3,an owl\n")
    done = omni("collection", "import", "x.csv", "-c", NOTES, "-m", tiny)
    assert (done.code, done.errors) == (
        3,
        [
            "omnivec: x.csv:3: it has no text in 'text'",
            "omnivec: x.csv:5: its id '3' is also that of x.csv:4",
        ],
    )
    assert done.out.startswith("4 rows: 2 new, 0 changed, 0 unchanged, 2 failed; ")


def test_successive_rows_with_one_reason_share_a_line(omni: CommandLine) -> None:
    (omni.folder / "x.jsonl").write_text('{"text": ""}\n' * 5 + "\n" + '{"text": ""}\n{"text": 3}\n')
    done = omni("collection", "import", "x.jsonl", "-c", NOTES)
    assert (done.code, done.errors) == (
        3,
        [
            "omnivec: x.jsonl:1-5: it has no text in 'text'",
            "omnivec: x.jsonl:7: it has no text in 'text'",
            "omnivec: x.jsonl:8: its text in 'text' is 3, an int: expected a text",
        ],
    )


@pytest.mark.parametrize(
    ("content", "options", "code", "message"),
    [
        ("", (), 1, "x.csv is empty: its first line must name the columns"),
        (
            "id,words\n1,a\n",
            (),
            2,
            "x.csv: name the column of the texts with --text (text=); it has 'id', 'words'",
        ),
        ("id,text\n1,a\n", ("--text", "txt"), 2, "x.csv has no column 'txt'; it has 'id', 'text'"),
        (
            None,
            (),
            1,
            "x.csv cannot be read: does not exist; check the spelling, or whether its disk is mounted",
        ),
    ],
)
def test_wrong_files_make_no_collection(
    omni: CommandLine, content: str | None, options: tuple[str, ...], code: int, message: str
) -> None:
    if content is not None:
        (omni.folder / "x.csv").write_text(content)
    done = omni("collection", "import", "x.csv", "-c", NOTES, *options)
    assert (done.code, done.errors) == (code, [f"omnivec: {message}"])
    assert not (omni.folder / NOTES).exists()


def test_a_header_alone_is_no_rows(omni: CommandLine) -> None:
    (omni.folder / "x.csv").write_text("id,text\n")
    done = omni("collection", "import", "x.csv", "-c", NOTES)
    assert (done.code, done.err) == (0, "") and done.out.startswith("0 rows: 0 new")


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_ctrl_c_says_how_many_rows_are_in_and_the_next_run_goes_on(omni: CommandLine, tiny: Path) -> None:
    write(omni.folder / "x.jsonl", 60)
    process = omni.start("collection", "import", "x.jsonl", "-c", NOTES, "-m", tiny, before=HELD)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    with Collection(omni.folder / NOTES, model=loaded(tiny)) as notes:
        whole(notes)
        count = len(notes)
    assert 8 <= count < 60 and not count % 8
    said = (
        f"the first {count} rows are in; {count} documents in {NOTES}; run the same command again to continue"
    )
    assert err.splitlines() == [f"omnivec: stopped; {said}"]
    again = omni("collection", "import", "x.jsonl", "-c", NOTES, "--json")
    assert again.rows[-1]["summary"]["new"] == 60 - count
