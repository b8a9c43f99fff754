"""Commands beside each other, interrupted ones, and readers that go away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from omnivec import Collection
from patience import PATIENCE
from workbench import CommandLine, contents, loaded, prose, whole, write_files

NOTES = "notes.omni"
SMALL_COMMITS = "import omnivec.collection.indexing; omnivec.collection.indexing.PASSAGES = 8"
HELD = f"""{SMALL_COMMITS}
import os, time, omnivec.models.embedder
run = omnivec.models.embedder.Embedder.run
calls = []
def held(*arguments, **settings):
    calls.append(1)
    while len(calls) > 5 and not os.path.exists("go"):
        time.sleep(0.01)
    return run(*arguments, **settings)
omnivec.models.embedder.Embedder.run = held
"""

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")


def test_two_at_once_end_as_one_would(omni: CommandLine, tiny: Path) -> None:
    write_files(omni.folder / "docs", [prose(i) for i in range(40)])
    write_files(omni.folder / "more", [prose(i) for i in range(100, 120)])
    first = omni.start("index", "docs", "--json", "-c", NOTES, "-m", tiny, before=HELD)
    assert first.stdout is not None
    first.stdout.readline()  # it is at work, and holds until it is told to go on
    second = omni.start("index", "docs", "more", "--json", "-c", NOTES, "-m", tiny)
    assert second.stderr is not None
    line = second.stderr.readline()
    assert line.startswith(f"omnivec: waiting for process {first.pid}, which is writing to ")
    (omni.folder / "go").touch()
    (out, err), (more, complaints) = first.communicate(timeout=PATIENCE), second.communicate(timeout=PATIENCE)
    assert (first.returncode, second.returncode, complaints) == (0, 0, ""), err + complaints
    assert json.loads(out.splitlines()[-1])["summary"]["new"] == 40
    summary = json.loads(more.splitlines()[-1])["summary"]
    assert (summary["new"], summary["unchanged"]) == (20, 40)
    with Collection(omni.folder / NOTES, create=False) as notes:
        whole(notes)
        assert len(notes) == 60


def test_many_at_once_make_one_new_collection(omni: CommandLine, tiny: Path) -> None:
    write_files(omni.folder / "docs", [prose(i) for i in range(10)])
    started = [omni.start("index", "docs", "--json", "-c", NOTES, "-m", tiny) for _ in range(4)]
    ends = [process.communicate(timeout=PATIENCE) for process in started]
    assert [process.returncode for process in started] == [0] * 4, [err for _, err in ends]
    new = [json.loads(out.splitlines()[-1])["summary"]["new"] for out, _ in ends]
    assert sorted(new) == [0, 0, 0, 10]
    with Collection(omni.folder / NOTES, create=False) as notes:
        whole(notes)


@posix
def test_ctrl_c_keeps_what_was_said_and_says_so_in_one_line(omni: CommandLine, tiny: Path) -> None:
    write_files(omni.folder / "docs", [prose(i) for i in range(120)])
    process = omni.start("index", "docs", "--json", "-c", NOTES, "-m", tiny, before=HELD)
    assert process.stdout is not None and process.stderr is not None
    said = [process.stdout.readline() for _ in range(20)]
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    done = [json.loads(line)["document"] for line in [*said, *rest.splitlines()]]
    assert 20 <= len(done) < 120
    with Collection(omni.folder / NOTES, model=loaded(tiny)) as notes:
        whole(notes)
        there = {entry.id for entry in notes.documents()}
        assert set(done) <= there  # a batch may be in that was not told any more
        kept = f"{len(there)} documents in {NOTES}; run the same command again to continue"
        assert err.splitlines() == [f"omnivec: stopped; {kept}"]
        report = notes.sync(omni.folder / "docs")
        assert (report.new, report.unchanged) == (120 - len(there), len(there))
        after = contents(notes)
    with Collection(omni.folder / "fresh.omni", model=loaded(tiny)) as fresh:
        fresh.sync(omni.folder / "docs")
        after.same_as(contents(fresh))


@posix
def test_ctrl_c_while_waiting_for_another(omni: CommandLine, tiny: Path) -> None:
    write_files(omni.folder / "docs", [prose(i) for i in range(60)])
    first = omni.start("index", "docs", "--json", "-c", NOTES, "-m", tiny, before=HELD)
    assert first.stdout is not None
    first.stdout.readline()
    second = omni.start("index", "docs", "--json", "-c", NOTES)
    assert second.stderr is not None
    assert "waiting" in second.stderr.readline()
    second.send_signal(signal.SIGINT)
    out, err = second.communicate(timeout=PATIENCE)
    assert (second.returncode, out) == (130, "") and err.count("\n") == 1
    (omni.folder / "go").touch()
    first.communicate(timeout=PATIENCE)
    assert first.returncode == 0


def shell(omni: CommandLine, line: str) -> subprocess.CompletedProcess[str]:
    """A line of sh, in which $OMNI is the command."""
    wrapper = omni.folder / "omni.sh"
    code = "from omnivec.cli.main import main; main()"
    wrapper.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{code}" "$@"\n')
    wrapper.chmod(0o755)
    return subprocess.run(
        ["sh", "-c", line],
        cwd=omni.folder,
        env={**omni.environment(), "OMNI": str(wrapper)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@posix
@pytest.mark.parametrize(
    "line",
    [
        "$OMNI search fox -k 900 --json | head -n 1",
        "$OMNI search fox -k 900 --whole | head -n 1",
        "$OMNI collection list --json | head -n 1",
        "seq 20000 | $OMNI embed - -m $MODEL | head -n 1",
        "$OMNI index more --json | head -n 1",
        "$OMNI models --json | head -n 0",
        "$OMNI --help | head -n 1",
    ],
)
def test_a_reader_that_goes_away(omni: CommandLine, tiny: Path, line: str) -> None:
    write_files(omni.folder / "docs", [prose(i, 200) for i in range(150)])
    write_files(omni.folder / "more", [prose(i) for i in range(200, 700)])
    with Collection(omni.folder / ".omnivec", model=tiny) as notes:
        notes.sync(omni.folder / "docs")
    done = shell(omni, line.replace("$MODEL", str(tiny)))
    assert done.stderr == "" and done.returncode == 0
    assert done.stdout.count("\n") == (0 if "-n 0" in line else 1)


@posix
def test_ctrl_c_leaves_no_half_file(omni: CommandLine, tiny: Path) -> None:
    for suffix in (".npy", ".jsonl", ".parquet"):
        process = omni.start("embed", "-", "-o", f"out{suffix}", "-m", tiny, stdin=subprocess.PIPE)
        assert process.stdin is not None
        for _ in range(9000):  # more than one window: something was written
            process.stdin.write("a line of text\n")
        process.stdin.flush()
        end = time.monotonic() + PATIENCE
        while not [file for file in omni.folder.iterdir() if suffix in file.name]:
            assert time.monotonic() < end and process.poll() is None, "no scratch file was seen"
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130
        assert err.splitlines()[-1].startswith("omnivec: stopped") and "Traceback" not in err
        assert not [file.name for file in omni.folder.iterdir() if suffix in file.name]


ABOUT_TO_IMPORT = """
import builtins, os, signal
whole, imported = builtins.__import__, []
def importing(name, *rest, **more):
    imported.append(name)
    if name == {name!r} and imported.count(name) == 1:
        os.kill(os.getpid(), signal.{number})
    return whole(name, *rest, **more)
builtins.__import__ = importing
"""


@posix
@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
@pytest.mark.parametrize("name", ["click", "omnivec.cli.group", "omnivec.cli.rows", "numpy", "openvino"])
def test_a_signal_among_the_imports_ends_quietly(
    omni: CommandLine, tiny: Path, name: str, number: str, code: int
) -> None:
    (omni.folder / "a.txt").write_text("text")
    done = omni("embed", "a.txt", "-m", tiny, before=ABOUT_TO_IMPORT.format(name=name, number=number))
    assert done.code == code, done
    assert done.out == "" and len(done.errors) <= 1 and "Traceback" not in done.err


@posix
@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_no_import_swallows_a_signal(omni: CommandLine, tiny: Path, number: str, code: int) -> None:
    """As Python's compiler drops one now and then, where there is no cache of what it made."""
    swallowing = f"""
import os, signal, sys
class Finder:
    asked = []
    def find_spec(self, name, *rest):
        if name == "omnivec.cli.rows" and not self.asked:
            self.asked.append(name)
            try:
                os.kill(os.getpid(), signal.{number})
            except BaseException:
                pass
sys.meta_path.insert(0, Finder())
"""
    (omni.folder / "a.txt").write_text("text")
    done = omni("embed", "a.txt", "-m", tiny, before=swallowing)
    assert done.code == code and done.out == "" and len(done.errors) <= 1, done


@posix
def test_an_interruption_in_a_destructor_is_not_lost(omni: CommandLine, tiny: Path) -> None:
    lost = """
import os, signal, time, omnivec.cli.rows as exporting
class Late:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
whole = exporting.ItemSource.check
def check(self):
    Late()
    time.sleep(20)
exporting.ItemSource.check = check
"""
    (omni.folder / "a.txt").write_text("text")
    done = omni("embed", "a.txt", "-m", tiny, before=lost)
    assert done.code == 130 and done.errors == ["omnivec: stopped; what was reported as done is saved"]


@posix
def test_sigterm_clears_away_what_was_half_written(omni: CommandLine, tiny: Path) -> None:
    (omni.folder / "out.npy").write_bytes(b"older")
    ended = """
import os, signal, omnivec.cli.rows as exporting
whole = exporting.NpySink.write
def write(self, *rest):
    whole(self, *rest)
    os.kill(os.getpid(), signal.SIGTERM)
exporting.NpySink.write = write
"""
    done = omni("embed", "-", "-o", "out.npy", "-m", tiny, before=ended, stdin="a\nb\n")
    assert (done.code, done.out, done.err) == (143, "", "")
    assert [file.name for file in omni.folder.iterdir()] == ["out.npy"]
    assert (omni.folder / "out.npy").read_bytes() == b"older"


@posix
def test_a_scratch_file_of_a_killed_process_is_removed_by_the_next(omni: CommandLine, tiny: Path) -> None:
    killed = "import os, omnivec.cli.rows as e; e.NpySink.close = lambda self: os.kill(os.getpid(), 9)"
    assert omni("embed", "-", "-o", "out.npy", "-m", tiny, before=killed, stdin="a\n").code == -9
    [scratch] = list(omni.folder.iterdir())
    assert scratch.name != "out.npy"
    earlier = scratch.stat().st_mtime - 1.0  # one of this moment might not be locked yet, and stays
    os.utime(scratch, (earlier, earlier))
    assert omni("embed", "-", "-o", "out.npy", "-m", tiny, stdin="a\n").code == 0
    assert [file.name for file in omni.folder.iterdir()] == ["out.npy"]


@posix
def test_no_standard_output_at_all(omni: CommandLine, tiny: Path) -> None:
    done = shell(omni, "$OMNI models >&-")
    assert (done.returncode, done.stderr) == (0, "")
