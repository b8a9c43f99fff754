"""`omnivec index` in a terminal: a total from the start, and results that stay clean in a pipe."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from workbench import CommandLine, prose, write_files

if os.name != "posix":
    pytest.skip("pseudo-terminals are POSIX", allow_module_level=True)

AT_ONCE = "import omnivec.progress; omnivec.progress.DELAY = 0"


def test_index_counts_documents_to_their_total_and_its_summary_stays_in_the_pipe(
    omni: CommandLine, tiny: Path
) -> None:
    import pty

    write_files(omni.folder / "docs", [prose(i) for i in range(7)])
    master, slave = pty.openpty()
    done = subprocess.Popen(
        omni.command("index", "docs", "-c", "notes.omni", "-m", tiny, before=AT_ONCE),
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
    out, _ = done.communicate(timeout=60)
    os.close(master)
    assert done.returncode == 0
    assert out.decode().startswith("7 new, 0 changed")
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen.decode())
    assert "0 of 7 documents" in shown and "7 of 7 documents" in shown
    assert shown.index("looking for files") < shown.index("indexing")
    assert "embedding" not in shown
