"""The registry of modalities, the kinds of items: a record for each has all that the other packages need to know.

A modality of omnivec is a file `inputs/NAME.py` or a folder `inputs/NAME/` that defines `MODALITY`; one of another
package is a module with `MODALITY`, registered by an entry point of the group `omnivec.modalities`. Such a module is
fast to import: its functions import what they need when they are called.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from omnivec.errors import ItemError, UsageError
from omnivec.inputs.items import shown
from omnivec.types import Floats
from omnivec.validation.plugins import only, plugins
from omnivec.validation.reasons import with_class

if TYPE_CHECKING:
    from omnivec.inputs.content import Content, Cutting, Piece
    from omnivec.inputs.preparer import Preparer, PreparerSource

GROUP = "omnivec.modalities"
_NAME = re.compile("[a-z][a-z0-9_]*")
_DEFINES = "\nMODALITY = "
_HEAD = 64
"""Number of leading bytes of a file that are passed to `sniff`."""


@dataclass(frozen=True)
class Canaries:
    """Test items that show whether a model still makes the same vectors.

    Attributes:
        names: names of the items, which collections record with their vectors.
        make: makes the item with a name.
        tolerance: largest 1 - cosine between two computations by the same model.
        prefix: prefix of all names, "NAME:"; "" for texts, which are their own names.
    """

    names: tuple[str, ...] = ()
    make: Callable[[str], Any] = str
    tolerance: float = 2e-3
    prefix: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Modality:
    """A kind of item: how it is recognised, read, split, prepared for a model, and shown.

    Attributes:
        name: name of lower-case letters, digits and "_", which models and collections record.
        one: one item in messages, such as "an image".
        plural: several items in messages, such as "images".
        given: how to give an item in memory, in messages, such as "a str".
        unit: unit of `seen` and `lost` in `Encoded`, such as "tokens" or "pixels".
        accepts: returns whether a value in memory is an item of this modality; not called for a pathlib.Path.
        rank: position in `names`; equal ranks are sorted by name.
        suffixes: suffixes of its files in lower case, such as ".png".
        file_names: names of its files without suffix in lower case, such as "makefile".
        sniff: returns whether the first bytes of a file, 64 or fewer, are those of this modality.
        otherwise: whether files that no modality claims, by name or first bytes, are of this one; one has True.
        read: makes the content of a file from its bytes, its path, and encodings to use if it names none; ItemError if
            it cannot be read. None if there is no reader: such files are refused, and left out of folders.
        read_file: makes the content of a file from its path, instead of `read`: for files that are too large to be held
            in memory. It reads them in blocks, and no limit of size applies to them.
        content: makes the content of an item in memory; ItemError if it cannot be read.
        pipeline: name and version of the way from content to passages, "NAME/1". A collection records it for each
            document, and makes the document again if it changes.
        is_cut: whether a document may be split into several passages by the model's limit; else it is one passage.
        passages: makes passages from content, the embedder that will embed them, and `Cutting`; called if `is_cut`.
        part: returns the item of a passage from the content of its document and the start and end of the passage in
            `span_unit`; None if the passage of a document that is read again is the whole item.
        is_transcribed: whether it may contain speech, which a collection writes down if a transcriber is named.
        describe: makes texts for full-text search from the model and the vectors (n, dim) of passages that have none,
            such as the names of the sounds in them; None if there are no such texts.
        overlap: largest length that a passage repeats from the one before, in `unit`.
        span_unit: unit of the start and end of a passage, such as "characters" or "seconds"; "" without an extent.
        counts_lost: whether what a model's limit cuts off is lost to a search, and counted by collections; False for
            images, which are cropped or resized.
        encode_options: options of `Embedder.encode` that apply to it.
        load_options: options of `omnivec.load` that apply to it.
        needs_tokenizer: whether the preparer needs the tokenizer in the model's folder.
        preparer: makes the preparer of a model; None if no family supports the modality yet.
        canaries: test items that show whether a model still makes the same vectors.
        default_model: the model that is used if none is named; "" for none.
        fallback_model: the model that is used, with a line that says so, if the default model cannot be loaded.
        joint_model: a model that embeds both it and texts, for messages; "" for none.
        templates: texts into which the labels of a classification are put, in place of {}.
        thumbnail: makes a PIL image of a file that fits a width and height in pixels; None if hits show only text.
        excerpt: makes a short excerpt of a file from its start to its end in `span_unit`, to be played in a page: media
            type, whose first part is the HTML element that plays it, and bytes. None if there is nothing to play.
        measure: returns the size of a document from its metadata, such as "640 x 480"; "" if it has none.
        input_size: returns how much of an item a known model reads, from its facts; "" for its length in `unit`.
    """

    name: str
    one: str
    plural: str
    given: str
    unit: str
    accepts: Callable[[Any], bool]
    rank: int = 100
    suffixes: frozenset[str] = frozenset()
    file_names: frozenset[str] = frozenset()
    sniff: Callable[[bytes], bool] = lambda head: False
    otherwise: bool = False
    read: Callable[[bytes, Path, Sequence[str]], Content] | None = None
    read_file: Callable[[Path], Content] | None = None
    content: Callable[[Any], Content] | None = None
    pipeline: str = ""
    is_cut: bool = False
    passages: Callable[[Content, Any, Cutting], list[Piece]] | None = None
    part: Callable[[Content, float, float], Any] | None = None
    is_transcribed: bool = False
    describe: Callable[[Any, Floats], list[str]] | None = None
    overlap: float = 32
    span_unit: str = ""
    counts_lost: bool = False
    encode_options: tuple[str, ...] = ()
    load_options: tuple[str, ...] = ()
    needs_tokenizer: bool = False
    preparer: Callable[[PreparerSource], Preparer] | None = None
    canaries: Canaries = Canaries()
    default_model: str = ""
    fallback_model: str = ""
    joint_model: str = ""
    templates: tuple[str, ...] = ("{}",)
    thumbnail: Callable[[Path, int, int], Any] | None = None
    excerpt: Callable[[Path, float, float], tuple[str, bytes]] | None = None
    measure: Callable[[Mapping[str, Any]], str] = lambda metadata: ""
    input_size: Callable[[Mapping[str, Any]], str] = lambda facts: ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UsageError(
                f"modality {self.name!r}: a name consists of a-z, 0-9 and _, and begins with a letter"
            )
        if self.pipeline and not re.fullmatch(rf"{self.name}/\S+", self.pipeline):
            raise UsageError(
                f"pipeline {self.pipeline!r} of the modality {self.name!r}: must be {self.name}/VERSION, without spaces"
            )

    def __repr__(self) -> str:
        return f"<Modality {self.name!r}>"


@functools.cache
def modalities() -> Mapping[str, Modality]:
    """Returns all modalities by name, in the order of their ranks, texts first."""
    here = Path(__file__).parent
    module_names = [
        f"omnivec.inputs.{path.stem if path.parent == here else path.parent.name}"
        for path in sorted([*here.glob("[a-z]*.py"), *here.glob("[a-z]*/__init__.py")])
        if _DEFINES in path.read_text(encoding="utf-8")
    ]
    records = [importlib.import_module(module).MODALITY for module in module_names]
    records += [_of_plugin(name, only("modality", name, found)) for name, found in plugins(GROUP).items()]
    ordered = sorted(records, key=lambda record: (record.rank, record.name))
    by_name = {record.name: record for record in ordered}
    for record in ordered:
        if by_name[record.name] is not record:
            raise UsageError(
                f"two modalities are named {record.name!r}: uninstall the package that adds one of them"
            )
    return by_name


def _of_plugin(name: str, module: str) -> Modality:
    """Returns the record of another package; UsageError if its module cannot be imported, or has none."""
    try:
        record = importlib.import_module(module).MODALITY
        if not isinstance(record, Modality):
            raise TypeError(f"MODALITY is {shown(record)}, not a Modality")
    except Exception as error:
        raise UsageError(
            f"modality {name!r} of another package cannot be loaded from the module {module} ({with_class(error)}): "
            "fix that package, or uninstall it"
        ) from error
    return record


def names() -> tuple[str, ...]:
    """Returns the names of all modalities in a fixed order: texts first, those of other packages last."""
    return tuple(modalities())


def readable() -> tuple[str, ...]:
    """Returns the names of the modalities whose items can be documents of a collection."""
    return tuple(name for name, record in modalities().items() if record.pipeline)


def get(name: str) -> Modality:
    """Returns a modality by its name; UsageError if there is none."""
    try:
        return modalities()[name]
    except KeyError:
        raise UsageError(
            f"modality {name!r} is none of {', '.join(names())}: a package that adds it is not installed"
        ) from None


def written() -> str:
    """Returns the modality of texts: of queries in words, labels, and full-text search."""
    return of("")


def of(item: Any) -> str:
    """Returns the modality of an item: a str is a text; files are recognised by their names, bytes by their beginning.

    Raises:
        ItemError: the item has no modality, such as a number or an array other than uint8 (h, w) or (h, w, 3).
    """
    if isinstance(item, PurePath):
        return of_name(item) or _otherwise()
    for name, record in modalities().items():
        if record.sniff(item[:_HEAD]) if isinstance(item, bytes) else record.accepts(item):
            return name
    ways = [record.given for record in modalities().values() if record.given]
    raise ItemError(f"{shown(item)} is not an item: give {', '.join(ways)}, or a pathlib.Path of a file")


def of_name(path: PurePath) -> str | None:
    """Returns the modality of a file by its name alone; None if no modality claims it."""
    by_name, by_suffix = _files()
    return by_name.get(path.name.lower()) or by_suffix.get(path.suffix.lower())


def of_file(path: PurePath, data: bytes) -> str:
    """Returns the modality of a file by its name, or else by its first bytes."""
    head = data[:_HEAD]
    by_name = of_name(path) or next(
        (name for name, record in modalities().items() if record.sniff(head)), None
    )
    return by_name or _otherwise()


def plural(names: Sequence[str]) -> str:
    """Names several modalities: "texts and images"."""
    return " and ".join(get(name).plural for name in names)


def misread(item: Any, reads: Sequence[str]) -> ItemError | None:
    """Returns the error for an item of a modality that a model does not read; None if this is not the case.

    Args:
        item: the item.
        reads: the modalities of the model.
    """
    try:
        actual = of(item)
    except ItemError:
        return None
    if actual in reads:
        return None
    one, is_file = get(actual).one, isinstance(item, PurePath)
    what = f"{item}: {one} by its name" if is_file else f"{shown(item)} is {one}"
    return ItemError(
        f"{what}, but this model reads only {plural(reads)}; use a model of {get(actual).plural}, or of both"
    )


def _otherwise() -> str:
    return next(name for name, record in modalities().items() if record.otherwise)


@functools.cache
def _files() -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Maps whole file names, and suffixes, to modalities; the first of several claims wins."""
    ordered = [*modalities().values()][::-1]
    whole = {name: record.name for record in ordered for name in record.file_names}
    return whole, {suffix: record.name for record in ordered for suffix in record.suffixes}
