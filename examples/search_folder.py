"""Search a folder of text files by meaning and by words.

python examples/search_folder.py docs "how are long texts handled"
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import omnivec


def main(folder: str, question: str) -> None:
    """Indexes a folder into a temporary collection and prints the three best passages."""
    with tempfile.TemporaryDirectory() as place, omnivec.Collection(Path(place) / "notes.omni") as notes:
        report = notes.sync(folder)
        print(f"{report.new} documents, {report.passages} passages")
        for hit in notes.search(question, k=3):
            print(
                f"{hit.score:.3f}  {Path(hit.document).name}, line {hit.line}: {' '.join(hit.text.split())[:70]}"
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
