"""A file to bytes, and to text: decoded, checked, its lines known."""

from __future__ import annotations

import codecs
import hashlib
import os
import re
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omnivec.errors import ItemError, UsageError
from omnivec.inputs.content import MAX_BYTES
from omnivec.inputs.files.html import extract
from omnivec.inputs.files.lines import LineStarts
from omnivec.inputs.files.suffixes import Kind, kind_of
from omnivec.validation.reasons import LeftOut, file_name, named, of_system

Encodings = str | Sequence[str] | None
"""One encoding, several, or None where a file is to tell by itself."""

MAX_LINE = 1_000_000
MAX_RUN = 20_000

TOO_LARGE = "over the size limit"
ENDLESS = "endless lines"

# Longest first: UTF-32's mark begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_META_CHARSET = re.compile(
    rb"""<meta[^>]{0,300}?charset\s{0,9}=\s{0,9}["']?\s{0,9}([\w.:-]{2,40})""", re.IGNORECASE
)
_META_WINDOW = 1024
_XML = re.compile(rb"""\s{0,9}<\?xml[^>]{0,99}?\sencoding\s{0,9}=\s{0,9}["']([\w.:-]{2,40})""")
# PEP 263, and what Emacs and Vim read.
_COOKIE = re.compile(rb"(?:[^\n]{0,200}\n)?[ \t\f]{0,99}#[^\n]{0,200}?coding[:=][ \t]{0,9}([\w.-]{2,40})")

# Text in these may be valid UTF-8 by its bytes and mean something else.
_SEVEN_BIT = ("iso2022", "hz", "utf-7")
_WIDE = ("utf-16", "utf-32")

# All but tab, line feed, vertical tab, form feed, carriage return and escape (of coloured logs).
_CONTROL = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_CONTROL_SHARE = 0.01

# Blanks, and the scripts that do without: Thai to Tibetan, Myanmar, Khmer; Chinese, Japanese, Yi, Korean.
_BREAK = re.compile(
    r"[\s\u0e00-\u0fff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u200b"
    r"\u2e80-\ua4cf\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]"
)


@dataclass(frozen=True, eq=False)
class FileText:
    r"""What a file says.

    Attributes:
        text: its text; lines end in \n, whatever they end in there.
        kind: of text, told by the file's name; "plain" where it tells nothing.
        lines: of the source file, for `line`.
        digest: SHA-256 of the file's bytes, in hexadecimal.
        encoding: that the bytes were read with.
        given: whether that was one of the encodings that the caller gave.
    """

    text: str
    kind: Kind
    lines: LineStarts
    digest: str
    encoding: str
    given: bool = False

    def line(self, offset: int) -> int:
        """The line of the source file, from 1, that the character at `offset` came from."""
        return self.lines.at(offset)


def read(path: Path, *, encoding: Encodings = None, max_bytes: int = MAX_BYTES) -> FileText:
    """Read a text file.

    A byte order mark decides, then whether the file is valid UTF-8, then what it declares (an HTML page, an XML
    declaration, a coding comment of source code), then `encoding`.

    Args:
        path: of a regular file; nothing else is ever opened.
        encoding: of files that are not UTF-8, one or several: the first that can read the file.
        max_bytes: a larger file is refused before it is read.

    Raises:
        ItemError: the file cannot be read, is empty, too large, binary, in another encoding, has an endless
            line, or (HTML) has no text; the message begins with its path. A `reasons.LeftOut` where there is nothing
            in it that could be embedded.
        UsageError: `encoding` is not the name of one.
    """
    return text_of(read_bytes(path, max_bytes), path, encoding=encoding)


def checked_encodings(encoding: Encodings) -> tuple[str, ...]:
    """The encodings that a caller gave, each known; UsageError where one is not."""
    if not (encoding is None or isinstance(encoding, str | list | tuple)):
        raise UsageError(f"encoding={encoding!r}: a name such as 'cp1252', or a list of names")
    names = () if encoding is None else (encoding,) if isinstance(encoding, str) else tuple(encoding)
    for name in names:
        _known(name)
    return names


def text_of(data: bytes, path: Path, *, encoding: Encodings = None) -> FileText:
    """The text in the bytes of a file; see `read`."""
    try:
        kind = kind_of(path) or "plain"
        wanted = checked_encodings(encoding)
        text, chosen, was_given = _decode(data, wanted, kind)
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        _refuse_binary(text, len(data))
        lines = LineStarts.of(text)
        if kind == "html":
            text, lines = extract(text)
            if not text.strip():
                raise LeftOut(
                    "without text",
                    f"no text in {len(data):,} bytes of HTML; leave it out with .omnivecignore",
                )
        elif not text.strip():
            raise LeftOut(
                "empty", f"only whitespace ({len(data):,} bytes), nothing to embed; fill it or leave it out"
            )
        _refuse_endless(text, lines)
    except ItemError as exc:
        raise named(exc, file_name(path)) from exc.__cause__
    return FileText(text, kind, lines, hashlib.sha256(data).hexdigest(), chosen, was_given)


def read_bytes(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes of a regular file of at most `max_bytes`; ItemError, beginning with its path, of all else."""
    try:
        return _bytes(path, max_bytes)
    except ItemError as exc:
        raise named(exc, file_name(path)) from exc.__cause__


def _bytes(path: Path, max_bytes: int) -> bytes:
    # Without O_NONBLOCK a FIFO that took the file's place since it was looked at would hold us for ever.
    flags = (
        os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    )
    try:
        _refuse_other(path.stat(), max_bytes)
        with open(os.open(path, flags), "rb") as file:  # noqa: PTH123, a descriptor opened with flags
            _refuse_other(os.fstat(file.fileno()), max_bytes)
            data = file.read(max_bytes + 1)
    except FileNotFoundError as exc:
        raise ItemError("does not exist (any more); check the spelling, or run again without it") from exc
    except PermissionError as exc:
        raise ItemError("permission denied; give read access or leave it out with .omnivecignore") from exc
    except (OSError, ValueError) as exc:  # ValueError: a NUL character in the path
        raise ItemError(f"cannot be read ({of_system(exc)}); try again or leave it out") from exc
    if len(data) > max_bytes:
        raise LeftOut(
            TOO_LARGE,
            f"grew over the limit of {max_bytes:,} bytes while it was read; split it or leave it out",
        )
    if not data:
        raise LeftOut("empty", "empty (0 bytes), nothing to embed; fill it or leave it out")
    return data


def _refuse_other(status: os.stat_result, max_bytes: int) -> None:
    """Refuse what is no regular file, or too large a one."""
    if stat.S_ISDIR(status.st_mode):
        raise ItemError("is a folder, not a file; list its files with omnivec.inputs.files.walk")
    if not stat.S_ISREG(status.st_mode):
        raise LeftOut(
            "special file",
            "not a regular file (a FIFO, socket or device), which is never read; leave it out",
        )
    if status.st_size > max_bytes:
        limit = f"{status.st_size:,} bytes, over the limit of {max_bytes:,}"
        raise LeftOut(TOO_LARGE, f"{limit}; split it or leave it out with .omnivecignore")


def _known(name: str) -> str:
    """The name that Python has for an encoding of text; UsageError where it knows none."""
    try:
        codec = codecs.lookup(name)
        "".encode(name)  # Python's transforms of bytes, such as hex, refuse here
    except (LookupError, ValueError, TypeError) as exc:
        raise UsageError(
            f"encoding {name!r} is not known to Python; say for instance utf-8 or cp1252"
        ) from exc
    return codec.name


def _decode(data: bytes, wanted: Sequence[str], kind: Kind) -> tuple[str, str, bool]:
    """A file's text, the encoding it was read with, and whether that is one of those `wanted`."""
    for mark, name in _MARKS:
        if data.startswith(mark):
            return _strict(data, name), name, False
    declared = _declared(data, kind)
    candidates = [(name, False) for name in (declared,) if name] + [(name, True) for name in wanted]
    for name, was_given in candidates:
        if (text := _hidden(data, name)) is not None:
            return text, name, was_given
    try:
        return data.decode(), "utf-8", False
    except UnicodeDecodeError:
        _refuse_binary(data.decode("latin-1"), len(data))
    narrow = [(name, was_given) for name, was_given in candidates if not _is_wide(name)]
    for name, was_given in narrow[:-1]:
        with suppress(UnicodeError):
            return data.decode(name), name, was_given
    if candidates and not narrow:
        raise ItemError(
            f"is not {candidates[-1][0]}, in which blanks and line ends have a zero byte: there is none among "
            f"{len(data):,} bytes; name the file's own encoding with --encoding, for instance cp1252"
        )
    name, was_given = narrow[-1] if narrow else ("utf-8", False)
    return _strict(data, name), name, was_given


def _is_wide(encoding: str) -> bool:
    return codecs.lookup(encoding).name.startswith(_WIDE)


def _hidden(data: bytes, encoding: str) -> str | None:
    """The text of bytes that may look like other text: two or four to a character, or shifted by escape sequences."""
    name = codecs.lookup(encoding).name
    if name.startswith(_WIDE):
        return _wide(data, name) if b"\0" in data else None
    if not (name.startswith(_SEVEN_BIT) and data.isascii()):
        return None
    try:
        text = data.decode(encoding)
    except UnicodeError:
        return None
    return None if text.isascii() else text


def _wide(data: bytes, name: str) -> str | None:
    """The text of bytes in UTF-16 or UTF-32 without a mark; None where they are not, or in the other order of bytes.

    In the right order blanks and line ends are what they are; in the other they are characters that nobody writes.
    """
    decoded: list[tuple[int, str, str]] = []
    for order in ("-le", "-be"):
        with suppress(UnicodeError):
            text = data.decode(name[:6] + order)
            decoded.append((sum(map(text.count, "\n\r\t ")), order, text))
    if not decoded:
        return None
    most = max(blanks for blanks, _, _ in decoded)
    return next(
        (text for blanks, order, text in decoded if blanks == most and name in (name[:6], name[:6] + order)),
        None,
    )


def _declared(data: bytes, kind: Kind) -> str | None:
    """The encoding that a file names itself, as Python knows it; None where there is none, or it cannot be."""
    head = data[:_META_WINDOW]
    match = (
        (_META_CHARSET.search(head) if kind == "html" else None) or _XML.match(head) or _COOKIE.match(head)
    )
    if match is None:
        return None
    try:
        name = _known(match[1].decode("ascii"))
    except (UsageError, UnicodeError):
        return None
    # As browsers do (WHATWG Encoding): nobody who declares Latin-1 means it, and a page that could be read so
    # far as to find its declaration is not UTF-16.
    if kind == "html" and name in ("iso8859-1", "ascii"):
        return "cp1252"
    return None if name.startswith(_WIDE) else name


def _strict(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as exc:
        _refuse_binary(data.decode("latin-1"), len(data))
        byte = f"byte 0x{data[exc.start : exc.start + 1].hex()} at offset {exc.start:,} of {len(data):,}"
        raise ItemError(
            f"{byte} is not {encoding}; name the file's own with --encoding, for instance cp1252"
        ) from exc
    except (ValueError, TypeError) as exc:
        raise ItemError(f"cannot be read as {encoding} ({exc}); name another with --encoding") from exc


def _refuse_binary(text: str, size: int) -> None:
    """Refuse a NUL, or many control characters: a picture or a program under the name of a text."""
    if (first := text.find("\x00")) >= 0:
        raise LeftOut(
            "binary",
            f"binary, not text (a NUL at character {first:,}; {size:,} bytes); leave it out, "
            "or if it is UTF-16 without a mark say --encoding utf-16-le",
        )
    count = len(_CONTROL.findall(text))
    if count > len(text) * _CONTROL_SHARE:
        problem = f"{count:,} control characters among {len(text):,}"
        raise LeftOut("binary", f"binary, not text ({problem}); leave it out with .omnivecignore")


def _refuse_endless(text: str, lines: LineStarts) -> None:
    """Refuse data in the dress of text: a line, or a run without any place to break, that does not end."""
    lengths = np.diff(np.append(LineStarts.of(text).starts, len(text) + 1)) - 1
    if lengths.max() > MAX_LINE:
        start = int(lengths[: lengths.argmax()].sum() + lengths.argmax())
        problem = f"line {lines.at(start):,} has {lengths.max():,} characters, over the limit of {MAX_LINE:,}"
        raise LeftOut(ENDLESS, f"{problem}; break its lines or leave it out with .omnivecignore")
    # A run of more than MAX_RUN holds one of these blocks whole, so most of the text is never looked at.
    block = MAX_RUN // 2
    for middle in range(0, len(text), block):
        if _BREAK.search(text, middle, middle + block):
            continue
        start, end = _run(text, middle)
        if end - start > MAX_RUN:
            problem = f"{end - start:,} characters without a place to break, over the limit of {MAX_RUN:,}"
            raise LeftOut(
                ENDLESS, f"line {lines.at(start):,}: {problem}; is it data? leave it out with .omnivecignore"
            )


def _run(text: str, middle: int) -> tuple[int, int]:
    """Where the run of unbreakable characters around `middle` begins and ends."""
    after = _BREAK.search(text, middle)
    start = middle
    while start > 0 and not _BREAK.match(text, start - 1):
        start -= 1
    return start, after.start() if after else len(text)
