"""What kinds of items there are: one record for each modality, which everybody else asks.

A modality of omnivec is a file `inputs/NAME.py` or a folder `inputs/NAME/` that defines `MODALITY`; one of another
package is a module with `MODALITY`, announced by an entry point of the group `omnivec.modalities`. Such a module holds
facts and imports nothing heavy; its functions import what they need when they are called.
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
from omnivec.validation.plugins import only, plugins
from omnivec.validation.reasons import one_line

if TYPE_CHECKING:
    from omnivec.inputs.content import Content, Cutting, Piece
    from omnivec.inputs.preparer import Preparer, PreparerSource

GROUP = "omnivec.modalities"
_NAME = re.compile("[a-z][a-z0-9_]*")
_DEFINES = "\nMODALITY = "
_HEAD = 64
"""First bytes of a file that `sniff` is shown, at least; less of a shorter file."""


@dataclass(frozen=True)
class Canaries:
    """Items that show whether a model still makes the vectors that it made.

    Attributes:
        names: as collections record them, beside the vectors.
        make: a name -> the item.
        tolerance: 1 - cosine that two computations by the same model may differ by.
        prefix: what all names begin with, "NAME:"; "" for texts, which are their own names.
    """

    names: tuple[str, ...] = ()
    make: Callable[[str], Any] = str
    tolerance: float = 2e-3
    prefix: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Modality:
    """A kind of item: how it is recognised, read, cut, prepared for a model, and shown.

    Attributes:
        name: in lower case, of letters, digits and "_"; what models and collections record.
        one: one of its items, in messages: "an image".
        plural: several, in messages: "images".
        given: how an item in memory is given, in messages: "a str".
        unit: what `seen` and `lost` of `Encoded` count: "tokens", "pixels".
        accepts: whether a value in memory is such an item. Of a str and a pathlib.Path nobody is asked.
        rank: place in `names`; of equal ranks by name.
        suffixes: of its files, in lower case: ".png".
        file_names: whole names of its files that have no suffix, in lower case: "makefile".
        sniff: whether the first bytes of a file, 64 or all there are, are those of such a file.
        otherwise: whether files are of this modality that no other claims, by name or first bytes. One modality is.
        read: the bytes of a file, its path, and the encodings to read it with where it names none -> its content;
            ItemError where it cannot be read. None while there is no reader: such files are refused where they are
            named, and left out of folders.
        content: an item in memory -> its content; ItemError where it cannot be read.
        pipeline: name and version of the way from content to passages, "NAME/1": part of what a collection records
            of a document, which is made anew where it changes.
        is_cut: whether a document may have several passages, by the model's limit; else it is one passage.
        passages: content, the embedder that will embed them, and how to cut -> passages; asked where `is_cut`.
        span_unit: what the start and end of a passage count: "characters", "seconds"; "" where it is the whole.
        counts_lost: whether what a model's limit cuts off an item is lost to a search, and counted by collections;
            not of an image, which is cropped or shrunk.
        encode_options: options of `Embedder.encode` that apply.
        load_options: options of `omnivec.load` that apply.
        needs_tokenizer: whether a model's preparer needs the folder's tokenizer.
        preparer: what makes a model's arrays of its items; None while no family can take it.
        canaries: items that show whether a model still makes the same vectors.
        default_model: what embeds it where no model is named; "" for none.
        joint_model: a model that embeds it and texts, for messages that tell a way out; "" for none.
        templates: what the labels of a classification are put into, in place of {}.
        thumbnail: a file, and the width and height in pixels that it has to fit in -> a PIL image; None where a hit is
            shown by its text alone.
        measure: metadata of a document -> its size in a few words, "640 x 480"; "" where they do not say it.
        input_size: facts of a known model -> how much of an item it sees; "" for its length in `unit`.
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
    content: Callable[[Any], Content] | None = None
    pipeline: str = ""
    is_cut: bool = False
    passages: Callable[[Content, Any, Cutting], list[Piece]] | None = None
    span_unit: str = ""
    counts_lost: bool = False
    encode_options: tuple[str, ...] = ()
    load_options: tuple[str, ...] = ()
    needs_tokenizer: bool = False
    preparer: Callable[[PreparerSource], Preparer] | None = None
    canaries: Canaries = Canaries()
    default_model: str = ""
    joint_model: str = ""
    templates: tuple[str, ...] = ("{}",)
    thumbnail: Callable[[Path, int, int], Any] | None = None
    measure: Callable[[Mapping[str, Any]], str] = lambda metadata: ""
    input_size: Callable[[Mapping[str, Any]], str] = lambda facts: ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UsageError(f"modality {self.name!r}: a name is of a-z, 0-9 and _, and begins with a letter")
        if self.pipeline and not re.fullmatch(rf"{self.name}/\S+", self.pipeline):
            raise UsageError(
                f"pipeline {self.pipeline!r} of the modality {self.name!r}: {self.name}/VERSION, without blanks"
            )

    def __repr__(self) -> str:
        return f"<Modality {self.name!r}>"


@functools.cache
def modalities() -> Mapping[str, Modality]:
    """All modalities by name, in the order of their ranks: texts first."""
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
                f"two modalities are called {record.name!r}: uninstall the package that adds one of them"
            )
    return by_name


def _of_plugin(name: str, module: str) -> Modality:
    """The record of another package; UsageError, naming it, where its module cannot be imported or has none."""
    try:
        record = importlib.import_module(module).MODALITY
        if not isinstance(record, Modality):
            raise TypeError(f"MODALITY is {shown(record)}, not a Modality")
    except Exception as error:
        why = f"{type(error).__name__}: {one_line(error)}"
        raise UsageError(
            f"modality {name!r} of another package cannot be had from the module {module} ({why}): mend that package, "
            "or uninstall it"
        ) from error
    return record


def names() -> tuple[str, ...]:
    """The names of all modalities in a fixed order: texts first, those of other packages last."""
    return tuple(modalities())


def readable() -> tuple[str, ...]:
    """The names of those whose items can become documents of a collection."""
    return tuple(name for name, record in modalities().items() if record.pipeline)


def get(name: str) -> Modality:
    """A modality by its name; UsageError where there is none."""
    try:
        return modalities()[name]
    except KeyError:
        raise UsageError(
            f"modality {name!r} is none of {', '.join(names())}: a package that adds it is not installed"
        ) from None


def written() -> str:
    """The modality of what is written: of queries in words, of labels, of what full-text search reads."""
    return of("")


def of(item: Any) -> str:
    """The modality of an item: a str is a text, always; a file is what its name says; bytes are what they begin with.

    Raises:
        ItemError: an item of no modality, such as a number or an array of anything but uint8 (h, w) or (h, w, 3).
    """
    if isinstance(item, PurePath):
        return of_name(item) or _otherwise()
    for name, record in modalities().items():
        if record.sniff(item[:_HEAD]) if isinstance(item, bytes) else record.accepts(item):
            return name
    ways = [record.given for record in modalities().values() if record.given]
    raise ItemError(f"{shown(item)} is no item: give {', '.join(ways)}, or a pathlib.Path of a file")


def of_name(path: PurePath) -> str | None:
    """The modality of a file, told by its name alone; None where that promises nothing."""
    by_name, by_suffix = _files()
    return by_name.get(path.name.lower()) or by_suffix.get(path.suffix.lower())


def of_file(path: PurePath, data: bytes) -> str:
    """The modality of a file, told by its name; where that says nothing, by its first bytes."""
    head = data[:_HEAD]
    by_name = of_name(path) or next(
        (name for name, record in modalities().items() if record.sniff(head)), None
    )
    return by_name or _otherwise()


def plural(names: Sequence[str]) -> str:
    """Several modalities in words: "texts and images"."""
    return " and ".join(get(name).plural for name in names)


def misread(item: Any, reads: Sequence[str]) -> ItemError | None:
    """Why an item cannot be embedded by a model, where it is plainly of a modality that the model does not read.

    Args:
        item: as it was given.
        reads: the model's modalities.
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
    """Whole file names, and suffixes -> modality; of two claims the first holds."""
    ordered = [*modalities().values()][::-1]
    whole = {name: record.name for record in ordered for name in record.file_names}
    return whole, {suffix: record.name for record in ordered for suffix in record.suffixes}
