"""`omnivec index` in a terminal: a total from the start, and results that stay clean in a pipe."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from patience import PATIENCE
from workbench import CommandLine, prose, write_files

if os.name != "posix":
    pytest.skip("pseudo-terminals are POSIX", allow_module_level=True)

AT_ONCE = "import omnivec.progress; omnivec.progress.DELAY = 0"


def test_index_counts_documents_to_their_total_and_its_summary_stays_in_the_pipe(
    omni: CommandLine, tiny: Path
) -> None:
    write_files(omni.folder / "docs", [prose(i) for i in range(7)])
    out, shown = in_a_terminal(omni, "index", "docs", "-c", "notes.omni", "-m", tiny)
    assert out.startswith("7 new, 0 changed")
    assert "0 of 7 documents" in shown and "7 of 7 documents" in shown
    assert shown.index("looking for files") < shown.index("indexing")
    assert "embedding" not in shown


def test_embed_and_classify_count_to_a_total_where_there_is_one(omni: CommandLine, tiny: Path) -> None:
    write_files(omni.folder / "docs", [prose(i) for i in range(5)])
    (omni.folder / "rows.csv").write_text('text\n"two\nlines"\nfox\n\ndog\n')
    (omni.folder / "lines.txt").write_text("fox\ndog\n")
    for given, total in (
        (["rows.csv", "--column", "text"], 3),
        (["lines.txt", "rows.csv", "--lines"], 8),
        ([str(file) for file in sorted((omni.folder / "docs").iterdir())], 5),
    ):
        _, shown = in_a_terminal(omni, "embed", *given, "-m", tiny, "-o", "out.npy")
        assert f"{total} of {total} items" in shown, given
    out, shown = in_a_terminal(omni, "classify", "docs", "-l", "fox,dog", "-m", tiny, "--json")
    assert "5 of 5 files" in shown and len(out.splitlines()) == 5
    silent = omni("embed", "rows.csv", "--column", "text", "-m", tiny, "-o", "out.npy")
    assert silent.code == 0 and " of " not in silent.err


def in_a_terminal(omni: CommandLine, *arguments: str | Path) -> tuple[str, str]:
    """What a command that ends well writes to stdout, a pipe, and what stands on its terminal, without colours."""
    import pty

    master, slave = pty.openpty()
    done = subprocess.Popen(
        omni.command(*arguments, before=AT_ONCE),
        cwd=omni.folder,
        env={**omni.environment(), "TERM": "xterm", "COLUMNS": "100", "CI": ""},
        stdout=subprocess.PIPE,
        stderr=slave,
    )
    os.close(slave)
    seen = bytearray()
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:  # all is written
            break
        if not part:
            break
        seen += part
    out, _ = done.communicate(timeout=PATIENCE)
    os.close(master)
    assert done.returncode == 0
    return out.decode(), re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen.decode())
