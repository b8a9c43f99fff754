"""`Collection.export_all`: a whole collection in files that other programs read, and `import_all` without loss."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from omnivec.collection import whole_formats as layouts
from omnivec.collection import whole_manifest as manifest
from omnivec.errors import MissingExtra, UsageError
from omnivec.files import synced
from omnivec.progress import Bar
from omnivec.store import copies, wholes
from omnivec.store.sqlite import Catalogue
from omnivec.validation import arguments


@dataclass
class ExportedAll:
    """The result of `Collection.export_all`.

    Attributes:
        documents: number of documents written.
        passages: number of their passages.
        vectors: name of a space -> number of its vectors.
        files: names of the files.
    """

    documents: int = 0
    passages: int = 0
    vectors: dict[str, int] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)


def checked_layout(layout: str) -> str:
    """Returns the name of a layout that can be written and read here.

    Raises:
        UsageError: there is no such layout.
        MissingExtra: "parquet" without pyarrow.
    """
    chosen = str(arguments.choice("format", layout, layouts.LAYOUTS))
    if chosen == "parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise MissingExtra("format 'parquet' needs pyarrow: pip install 'omnivec[parquet]'") from error
    return chosen


def export_all(catalogue: Catalogue, target: Path, layout: str, shown: Bar) -> ExportedAll:
    """Implements `Collection.export_all`."""
    chosen, target = checked_layout(layout), target.absolute()
    if os.path.lexists(target):
        raise UsageError(f"{target} exists already: an export of the whole collection needs a new folder")
    copies.refuse_inside(catalogue.folder, target, "an export")
    with catalogue.snapshot(), copies.made(target) as draft:
        spaces = list(catalogue.spaces().values())
        report = ExportedAll(vectors={one.name: 0 for one in spaces})
        checksum = 0
        sink = layouts.sink(chosen, draft, spaces)
        try:
            for window in wholes.windows(catalogue):
                sink.write(window)
                for whole in window:
                    checksum ^= whole.head[-1]
                    report.documents += 1
                    report.passages += len(whole.passages)
                    for _, vectors in whole.passages:
                        for space, _, _ in vectors:
                            report.vectors[space] += 1
                shown.advance(len(window))
        finally:
            sink.close()
        facts = manifest.Manifest(
            *(
                chosen,
                catalogue.id(),
                catalogue.changes()[0],
                report.documents,
                report.passages,
                report.vectors,
            ),
            checksum=checksum,
            spaces=spaces,
            roots=list(catalogue.roots()),
        )
        manifest.write(draft, facts)
        for file in draft.iterdir():
            synced(file)
        report.files = sorted(file.name for file in draft.iterdir())
    return report
