"""What encode, add and sync show of their progress where nobody asked for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from omnivec import Collection
from workbench import loaded, prose, write_files


def test_each_counts_its_own_work_to_its_total_and_is_silent_on_demand(
    notebook: None, capsys: pytest.CaptureFixture[str], notes: Collection, tiny: Path, tmp_path: Path
) -> None:
    def last() -> list[str]:
        """The labels that were shown since, and the last line of them."""
        lines = capsys.readouterr().err.splitlines()
        return [*dict.fromkeys(line.split(":")[0] for line in lines), *(lines[-1:])]

    model = loaded(tiny)
    model.encode([prose(i) for i in range(40)])
    label, line = last()
    assert label == "embedding" and line.startswith("embedding: 40 of 40 items, ")
    assert len(model.encode(["one", "two"], show_progress_bar=False)) == 2 and last() == []

    notes.add([prose(1), prose(1), prose(2)])
    label, line = last()
    assert label == "adding" and line.startswith("adding: 3 of 3 items, ")
    notes.add([prose(1), prose(4)])  # one is there already
    assert last()[1].startswith("adding: 2 of 2 items, ")
    notes.add(prose(5), show_progress_bar=False)
    assert last() == []

    write_files(tmp_path / "docs", {f"{i}.txt": prose(i) for i in range(20)} | {"empty.txt": ""})
    (tmp_path / "docs" / "bad.txt").write_bytes(b"caf\xe9")
    for _ in range(2):  # new, then unchanged
        notes.sync([tmp_path / "docs", tmp_path / "docs" / "1.txt"])
        *labels, line = last()
        assert labels == ["looking for files", "indexing"]
        assert line.startswith("indexing: 22 of 22 documents, ")
    notes.sync(tmp_path / "docs", show_progress_bar=False)
    assert last() == []
