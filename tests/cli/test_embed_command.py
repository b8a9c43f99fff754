"""`omnivec embed`: the vectors of `encode`, in the order of the items, whole files or none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from patience import PATIENCE
from workbench import DROP, CommandLine, Done, loaded, prose

TEXTS = [prose(i, 10 + 7 * (i % 9)) for i in range(40)]
LINES = [text.replace("\n", " ").strip() for text in TEXTS]


@pytest.fixture
def vectors(tiny: Path, cache: Path) -> Any:
    return loaded(tiny).encode(LINES)


def complaints(done: Done) -> list[str]:
    """The lines on stderr that name what failed."""
    return [line for line in done.errors if " components" not in line]


def read_parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def test_every_format_holds_what_encode_gives(omni: CommandLine, tiny: Path, vectors: Any) -> None:
    stdin = "\n".join(LINES) + "\n"
    for suffix in ("npy", "jsonl", "parquet"):
        done = omni("embed", "-", "-o", f"out.{suffix}", "-m", tiny, stdin=stdin)
        assert (done.code, done.out, complaints(done)) == (0, "", []), done.err
        assert "40 items, 0 failed, 32 components" in done.err
    told = omni("embed", "-", "-m", tiny, stdin=stdin)
    matrix = np.load(omni.folder / "out.npy")
    assert (matrix.dtype, matrix.shape, matrix.flags.c_contiguous) == (np.float32, (40, 32), True)
    np.testing.assert_allclose(matrix, vectors, atol=1e-5)
    rows = [json.loads(line) for line in (omni.folder / "out.jsonl").read_text().splitlines()]
    assert rows == told.rows
    assert [row["index"] for row in rows] == list(range(40))
    assert [row["item"] for row in rows] == [f"-:{i}" for i in range(1, 41)]
    np.testing.assert_array_equal(np.array([row["vector"] for row in rows], np.float32), matrix)
    table = read_parquet(omni.folder / "out.parquet")
    np.testing.assert_array_equal(np.array([row["vector"] for row in table], np.float32), matrix)
    assert [row["item"] for row in table] == [row["item"] for row in rows]


def test_files_tables_and_lines(omni: CommandLine, tiny: Path, vectors: Any) -> None:
    (omni.folder / "rows.jsonl").write_text("\n\n".join(json.dumps({"n": 1, "body": t}) for t in LINES))
    (omni.folder / "rows.csv").write_text(
        "\ufeffid,body\r\n" + "".join(f'{i},"{text}"\r\n' for i, text in enumerate(LINES)), newline=""
    )
    (omni.folder / "rows.tsv").write_text("body\tid\n" + "".join(f"{text}\t1\n" for text in LINES))
    (omni.folder / "lines.txt").write_text("\r\n".join(LINES), newline="")
    for i, text in enumerate(LINES):
        (omni.folder / f"{i:02}.txt").write_text(text)
    files = [f"{i:02}.txt" for i in range(40)]
    for arguments in (
        ["rows.jsonl", "--column", "body"],
        ["rows.csv", "--column", "body"],
        ["rows.tsv", "--column", "body"],
        ["lines.txt", "--lines"],
        files,
    ):
        done = omni("embed", *arguments, "-o", "out.npy", "-m", tiny)
        assert done.code == 0, done.err
        np.testing.assert_allclose(np.load(omni.folder / "out.npy"), vectors, atol=1e-5, err_msg=arguments[0])
    both = omni("embed", "rows.jsonl", "rows.csv", "--column", "body", "-o", "out.npy", "-m", tiny)
    assert both.code == 0
    np.testing.assert_allclose(np.load(omni.folder / "out.npy"), np.tile(vectors, (2, 1)), atol=1e-5)


def test_what_fails_keeps_its_row(omni: CommandLine, tiny: Path, vectors: Any) -> None:
    rows = [json.dumps({"body": text}) for text in LINES[:10]]
    rows[2] = '{"body": "torn'
    rows[3] = json.dumps({"text": "x", "n": 1})
    rows[4] = json.dumps({"body": 7})
    rows[5] = json.dumps(["body"])
    rows[6] = '{"body": "half \\ud800 pair"}'
    (omni.folder / "rows.jsonl").write_text("\n".join(rows))
    bad, good = [2, 3, 4, 5, 6], [0, 1, 7, 8, 9]
    for suffix in ("npy", "jsonl", "parquet"):
        done = omni("embed", "rows.jsonl", "--column", "body", "-o", f"out.{suffix}", "-m", tiny)
        assert done.code == 3
        said = complaints(done)
        assert [line.split(" ")[1].rstrip(":") for line in said] == [f"rows.jsonl:{i + 1}" for i in bad]
        assert "not JSON" in said[0] and "has text, n" in said[1] and "'body'" in said[1]
    matrix = np.load(omni.folder / "out.npy")
    assert matrix.shape == (10, 32)
    assert np.isnan(matrix[bad]).all()
    np.testing.assert_allclose(matrix[good], vectors[good], atol=1e-5)
    told = [json.loads(line) for line in (omni.folder / "out.jsonl").read_text().splitlines()]
    table = read_parquet(omni.folder / "out.parquet")
    for i in range(10):
        assert ("error" in told[i]) == (i in bad) == ("vector" not in told[i])
        assert (table[i]["error"] is not None) == (i in bad) == (table[i]["vector"] is None)
        assert told[i]["item"] == table[i]["item"] == f"rows.jsonl:{i + 1}"


def test_bad_files_among_good_ones(omni: CommandLine, tiny: Path, vectors: Any) -> None:
    (omni.folder / "good.txt").write_text(LINES[0])
    (omni.folder / "last.txt").write_text(LINES[1])
    (omni.folder / "empty.txt").write_text("")
    (omni.folder / "binary.txt").write_bytes(bytes(1000))
    names = ["good.txt", "absent.txt", "empty.txt", "binary.txt", "last.txt"]
    done = omni("embed", *names, "-o", "out.npy", "-m", tiny)
    assert done.code == 3 and len(complaints(done)) == 3
    for name, line in zip(names[1:4], complaints(done), strict=True):
        assert line.count(name) == 1
    matrix = np.load(omni.folder / "out.npy")
    np.testing.assert_allclose(matrix[[0, 4]], vectors[:2], atol=1e-5)
    assert np.isnan(matrix[1:4]).all()


def test_bytes_that_are_not_utf_8_cost_their_line(omni: CommandLine, tiny: Path, vectors: Any) -> None:
    raw = f"{LINES[0]}\n".encode() + b"caf\xe9\n" + f"{LINES[1]}\n".encode()
    (omni.folder / "lines.txt").write_bytes(raw)
    for name, stdin in (("lines.txt", b""), ("-", raw)):
        for variables in ({}, {"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}):
            line = CommandLine(omni.folder, omni.cache, variables)
            done = line("embed", name, "--lines", "-o", "out.npy", "-m", tiny, stdin=stdin)
            assert done.code == 3
            assert complaints(done) == [f"omnivec: {name}:2 is not UTF-8 (character 3): convert it first"]
            matrix = np.load(omni.folder / "out.npy")
            np.testing.assert_allclose(matrix[[0, 2]], vectors[:2], atol=1e-5)
            assert np.isnan(matrix[1]).all()


def test_nothing_at_all(omni: CommandLine, tiny: Path) -> None:
    for suffix in ("npy", "jsonl", "parquet"):
        done = omni("embed", "-", "-o", f"out.{suffix}", "-m", tiny)
        assert done.code == 0 and "0 items" in done.err
    assert np.load(omni.folder / "out.npy").shape == (0, 32)
    assert (omni.folder / "out.jsonl").read_bytes() == b""
    assert read_parquet(omni.folder / "out.parquet") == []
    cut = omni("embed", "-", "-o", "cut.npy", "--dim", "8", "-m", tiny)
    assert cut.code == 0 and np.load(omni.folder / "cut.npy").shape == (0, 8)


def test_more_than_a_window(omni: CommandLine, tiny: Path) -> None:
    count = 8192 + 100
    done = omni("embed", "-", "-o", "out.npy", "-m", tiny, stdin="".join(f"{i}\n" for i in range(count)))
    assert done.code == 0
    matrix = np.load(omni.folder / "out.npy")
    some = [0, 5, 8191, 8192, count - 1]
    assert matrix.shape == (count, 32)
    np.testing.assert_allclose(matrix[some], loaded(tiny).encode([str(i) for i in some]), atol=1e-5)
    told = omni("embed", "-", "-m", tiny, stdin="".join(f"{i}\n" for i in range(count)) + "\n").rows
    assert [row["index"] for row in told] == list(range(count + 1))
    assert [row["item"] for row in told[8190:8194]] == [f"-:{i}" for i in range(8191, 8195)]


def test_dim_normalize_prompt_and_batch_size(omni: CommandLine, tiny: Path, vectors: Any) -> None:
    stdin = "\n".join(LINES)
    omni("embed", "-", "-o", "a.npy", "--dim", "8", "--normalize", "-m", tiny, stdin=stdin)
    part = np.load(omni.folder / "a.npy")
    wanted = vectors[:, :8] / np.linalg.norm(vectors[:, :8], axis=1, keepdims=True)
    np.testing.assert_allclose(part, wanted, atol=1e-5)
    omni("embed", "-", "-o", "b.npy", "--batch-size", "3", "--as-is", "-m", tiny, stdin=stdin)
    np.testing.assert_allclose(np.load(omni.folder / "b.npy"), vectors, atol=1e-5)


def test_what_is_cut_is_said(omni: CommandLine, tiny: Path) -> None:
    done = omni("embed", "-", "-m", tiny, stdin="short\n" + "fox " * 500 + "\n")
    assert "1 item longer than the model's 96 tokens: truncated" in done.err
    assert "lost" not in done.rows[0] and done.rows[1]["lost"] > 300


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["-", "-o", "out.pickle"], 2, "the suffix selects the format"),
        (["-", "-o", "out"], 2, "the suffix selects the format"),
        (["-", "-o", "absent/out.npy"], 2, "folder that does not exist"),
        (["-", "-o", "folder.npy"], 2, "is a folder"),
        (["rows.csv"], 2, "name the field that holds the text with --column"),
        (["rows.csv", "--column", "nope"], 1, "its columns: id, body"),
        (["a.txt", "--column", "body"], 2, "--column reads"),
        (["folder.npy"], 2, "is a folder"),
        (["-", "--dim", "0"], 2, "1 to 32"),
        (["-", "--dim", "33"], 2, "1 to 32"),
        (["-", "--batch-size", "0"], 2, "at least 1"),
        (["-", "--prompt-name", "query"], 2, "not a prompt of this model"),
        (["-", "--precision", "int4"], 2, "int4"),
        (["absent.csv", "--column", "x"], 1, "cannot be read"),
        (["empty.csv", "--column", "x"], 1, "its columns: none"),
    ],
)
def test_what_cannot_be_meant(
    omni: CommandLine, tiny: Path, arguments: list[str], code: int, part: str
) -> None:
    (omni.folder / "rows.csv").write_text("id,body\n1,text,and,more\n")
    (omni.folder / "empty.csv").write_text("")
    (omni.folder / "a.txt").write_text("text")
    (omni.folder / "folder.npy").mkdir()
    files = {file.name for file in omni.folder.iterdir()}
    done = omni("embed", *arguments, "-m", tiny, stdin="a\n")
    assert done.code == code, done.err
    assert part in done.err and "Traceback" not in done.err and "fault" not in done.err
    assert {file.name for file in omni.folder.iterdir()} == files


def test_a_row_longer_than_its_header(omni: CommandLine, tiny: Path) -> None:
    (omni.folder / "rows.csv").write_text("id,body\n1\n2,fine,more,still\n" + f'3,"{"fox " * 60_000}"\n')
    done = omni("embed", "rows.csv", "--column", "body", "-o", "out.npy", "-m", tiny)
    assert done.code == 3
    [line] = complaints(done)
    assert line == "omnivec: rows.csv:2 has no text in 'body'; it has id, body"
    assert np.isnan(np.load(omni.folder / "out.npy")).any(axis=1).tolist() == [True, False, False]


@pytest.mark.skipif(sys.platform != "linux", reason="drops rights as Linux has them")
def test_a_target_that_cannot_be_written(omni: CommandLine, tiny: Path) -> None:
    (omni.folder / "closed").mkdir()
    (omni.folder / "closed").chmod(0o555)
    done = omni("embed", "-", "-o", "closed/out.npy", "-m", tiny, stdin="a\n", before=DROP)
    assert done.code == 1
    assert complaints(done) == [
        "omnivec: closed/out.npy cannot be written: permission denied: this user needs access to it and to its folders"
    ]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_said_in_one_line(omni: CommandLine, tiny: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        for arguments in (["embed", "-", "-m", str(tiny)], ["models", "--json"], ["--help"]):
            done = subprocess.run(
                omni.command(*arguments),
                cwd=omni.folder,
                env=omni.environment(),
                input=b"a line\n" * 50,
                stdout=full,
                stderr=subprocess.PIPE,
                timeout=PATIENCE,
            )
            assert done.returncode == 1, arguments
            [line] = [line for line in done.stderr.decode().splitlines() if " components" not in line]
            assert line == (
                "omnivec: no space is left on the disk of the output, which is incomplete: make room, or choose "
                "another place"
            )


def test_an_older_file_stays_when_the_command_fails(omni: CommandLine, tiny: Path) -> None:
    (omni.folder / "out.npy").write_bytes(b"older")
    (omni.folder / "a.txt").write_text("fine")
    done = omni("embed", "a.txt", ".", "-o", "out.npy", "-m", tiny)
    assert done.code == 2
    assert (omni.folder / "out.npy").read_bytes() == b"older"
    assert sorted(file.name for file in omni.folder.iterdir()) == ["a.txt", "out.npy"]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["rev.csv", "--column", "TYPO"], "has no column 'TYPO'; its columns: id, body"),
        (["rev.jsonl", "--column", "TYPO"], "none of 1 item could be embedded: old.npy is not written"),
        (["rev.csv", "absent.csv", "--column", "body"], "absent.csv cannot be read"),
        (["absent.txt"], "none of 1 item could be embedded: old.npy is not written"),
        (["absent.txt", "--lines"], "absent.txt cannot be read"),
        (["binary.txt", "absent.txt"], "none of 2 items could be embedded: old.npy is not written"),
    ],
)
def test_a_mistake_of_the_whole_run_leaves_the_older_output(
    omni: CommandLine, tiny: Path, arguments: list[str], part: str
) -> None:
    (omni.folder / "rev.csv").write_text("id,body\n1,text\n")
    (omni.folder / "rev.jsonl").write_text('{"body": "text"}\n')
    (omni.folder / "binary.txt").write_bytes(bytes(1000))
    (omni.folder / "old.npy").write_bytes(b"older")
    files = {file.name for file in omni.folder.iterdir()}
    done = omni("embed", *arguments, "-o", "old.npy", "-m", tiny)
    assert done.code == 1 and part in done.err, done.err
    assert (omni.folder / "old.npy").read_bytes() == b"older"
    assert {file.name for file in omni.folder.iterdir()} == files


@pytest.mark.skipif(os.name != "posix", reason="links, rights and devices")
def test_an_output_keeps_its_link_and_rights_and_is_never_a_device(omni: CommandLine, tiny: Path) -> None:
    (omni.folder / "real.npy").write_bytes(b"older")
    (omni.folder / "real.npy").chmod(0o600)
    (omni.folder / "link.npy").symlink_to("real.npy")
    (omni.folder / "a.txt").write_text("text")
    assert omni("embed", "a.txt", "-o", "link.npy", "-m", tiny).code == 0
    assert (omni.folder / "link.npy").is_symlink()
    assert np.load(omni.folder / "real.npy").shape == (1, 32)
    assert (omni.folder / "real.npy").stat().st_mode & 0o777 == 0o600
    os.mkfifo(omni.folder / "pipe.npy")
    done = omni("embed", "a.txt", "-o", "pipe.npy", "-m", tiny)
    assert done.code == 2 and "is not a regular file" in done.err
    assert not (omni.folder / "pipe.npy").is_file()


def test_no_output_takes_the_place_of_what_is_read(omni: CommandLine, tiny: Path) -> None:
    rows = "".join(json.dumps({"body": text}) + "\n" for text in LINES[:2])
    (omni.folder / "rows.jsonl").write_text(rows)
    (omni.folder / "other.jsonl").symlink_to("rows.jsonl")
    for output in ("rows.jsonl", "./rows.jsonl", "other.jsonl"):
        done = omni("embed", "rows.jsonl", "--column", "body", "-o", output, "-m", tiny)
        assert done.code == 2 and f"{Path(output)} is one of the input files" in done.err
        assert (omni.folder / "rows.jsonl").read_text() == rows
