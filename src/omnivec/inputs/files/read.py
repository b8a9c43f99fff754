"""Reads files as bytes, and as text: detects the encoding, checks the content, and keeps line numbers."""

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
from omnivec.inputs.files.regular import READ_FLAGS
from omnivec.inputs.files.suffixes import Kind, kind_of
from omnivec.validation.reasons import LeftOut, file_name, named, of_system

Encodings = str | Sequence[str] | None
"""One encoding, several, or None to use only what a file itself specifies."""

MAX_LINE = 1_000_000
MAX_RUN = 20_000

TOO_LARGE = "over the size limit"
ENDLESS = "endless lines"

# Longest first, since the mark of UTF-32 begins with that of UTF-16.
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
# The coding comments of PEP 263, Emacs and Vim.
_COOKIE = re.compile(rb"(?:[^\n]{0,200}\n)?[ \t\f]{0,99}#[^\n]{0,200}?coding[:=][ \t]{0,9}([\w.-]{2,40})")

# Encodings whose bytes may also be valid UTF-8, with another meaning.
_SEVEN_BIT = ("iso2022", "hz", "utf-7")
_WIDE = ("utf-16", "utf-32")

# Control characters except tab, line feed, vertical tab, form feed, carriage return and escape (in coloured logs).
_CONTROL = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_CONTROL_SHARE = 0.01

# White space, and scripts without spaces: Thai to Tibetan, Myanmar, Khmer; Chinese, Japanese, Yi, Korean.
_BREAK = re.compile(
    r"[\s\u0e00-\u0fff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u200b"
    r"\u2e80-\ua4cf\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]"
)


@dataclass(frozen=True, eq=False)
class FileText:
    r"""The text of a file.

    Attributes:
        text: the text, with lines that end with \n.
        kind: kind of text by the name of the file; "plain" if the name says nothing.
        lines: the line starts of the source file, for `line`.
        digest: SHA-256 of the bytes of the file, in hexadecimal.
        encoding: encoding that the bytes were decoded with.
        given: whether this is one of the caller's encodings.
    """

    text: str
    kind: Kind
    lines: LineStarts
    digest: str
    encoding: str
    given: bool = False

    def line(self, offset: int) -> int:
        """Returns the line of the source file, from 1, of the character at `offset`."""
        return self.lines.at(offset)


def read(path: Path, *, encoding: Encodings = None, max_bytes: int = MAX_BYTES) -> FileText:
    """Reads a text file.

    The encoding is determined by a byte order mark, or else it is UTF-8 if the file is valid UTF-8, or else what the
    file declares (an HTML page, an XML declaration, a coding comment in source code), or else `encoding`.

    Args:
        path: path of a regular file; nothing else is opened.
        encoding: one or more encodings for files that are not UTF-8; the first that can decode the file is used.
        max_bytes: largest size of the file.

    Raises:
        ItemError: the file cannot be read, is empty, too large, binary, in another encoding, has an extremely long
            line, or is an HTML page without text; the message begins with its path. It is a `reasons.LeftOut` if the
            file contains nothing to embed.
        UsageError: an encoding is unknown.
    """
    return text_of(read_bytes(path, max_bytes), path, encoding=encoding)


def checked_encodings(encoding: Encodings) -> tuple[str, ...]:
    """Returns the encodings of an argument as a tuple; UsageError if one is unknown."""
    if not (encoding is None or isinstance(encoding, str | list | tuple)):
        raise UsageError(f"encoding={encoding!r}: must be a name such as 'cp1252', or a list of names")
    names = () if encoding is None else (encoding,) if isinstance(encoding, str) else tuple(encoding)
    for name in names:
        _known(name)
    return names


def text_of(data: bytes, path: Path, *, encoding: Encodings = None) -> FileText:
    """Returns the text in the bytes of a file; see `read`."""
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
    """Returns the bytes of a regular file; ItemError, beginning with its path, if it is larger or cannot be read."""
    try:
        return _bytes(path, max_bytes)
    except ItemError as exc:
        raise named(exc, file_name(path)) from exc.__cause__


def _bytes(path: Path, max_bytes: int) -> bytes:
    try:
        _refuse_other(path.stat(), max_bytes)
        with open(os.open(path, READ_FLAGS), "rb") as file:  # noqa: PTH123, a descriptor opened with flags
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
    """Refuses anything other than a regular file of at most `max_bytes`."""
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
    """Returns Python's name of an encoding; UsageError if Python does not know it."""
    try:
        codec = codecs.lookup(name)
        "".encode(name)  # Python's transforms of bytes, such as hex, refuse here
    except (LookupError, ValueError, TypeError) as exc:
        raise UsageError(
            f"encoding {name!r} is not known to Python; use for instance utf-8 or cp1252"
        ) from exc
    return codec.name


def _decode(data: bytes, wanted: Sequence[str], kind: Kind) -> tuple[str, str, bool]:
    """Returns the text of a file, its encoding, and whether this is one of those in `wanted`."""
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
            f"is not {candidates[-1][0]}, in which spaces and line ends have a zero byte: there is none among "
            f"{len(data):,} bytes; name the file's own encoding with --encoding, for instance cp1252"
        )
    name, was_given = narrow[-1] if narrow else ("utf-8", False)
    return _strict(data, name), name, was_given


def _is_wide(encoding: str) -> bool:
    return codecs.lookup(encoding).name.startswith(_WIDE)


def _hidden(data: bytes, encoding: str) -> str | None:
    """Decodes bytes in an encoding whose bytes may look like other text; None if they are not in this encoding."""
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
    """Decodes UTF-16 or UTF-32 without a byte order mark; None if the bytes are not in this encoding and byte order.

    In the right byte order there are spaces and line ends; in the wrong one these are very rare characters.
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
    """Returns the encoding that a file declares, by its name in Python; None if there is none, or it is impossible."""
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
    # As in browsers (WHATWG Encoding): Latin-1 is read as Windows-1252, and a page whose declaration could be
    # read as ASCII is not UTF-16.
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
    """Refuses text with a NUL or many control characters, which is binary data in a file with the name of a text."""
    if (first := text.find("\x00")) >= 0:
        raise LeftOut(
            "binary",
            f"binary, not text (a NUL at character {first:,}; {size:,} bytes); leave it out, "
            "or if it is UTF-16 without a byte order mark use --encoding utf-16-le",
        )
    count = len(_CONTROL.findall(text))
    if count > len(text) * _CONTROL_SHARE:
        problem = f"{count:,} control characters among {len(text):,}"
        raise LeftOut("binary", f"binary, not text ({problem}); leave it out with .omnivecignore")


def _refuse_endless(text: str, lines: LineStarts) -> None:
    """Refuses data in text form: extremely long lines, or runs of characters without a place to break."""
    lengths = np.diff(np.append(LineStarts.of(text).starts, len(text) + 1)) - 1
    if lengths.max() > MAX_LINE:
        start = int(lengths[: lengths.argmax()].sum() + lengths.argmax())
        problem = f"line {lines.at(start):,} has {lengths.max():,} characters, over the limit of {MAX_LINE:,}"
        raise LeftOut(ENDLESS, f"{problem}; break its lines or leave it out with .omnivecignore")
    # A run of more than MAX_RUN characters contains one of these blocks, so usually one search per block is enough.
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
    """Returns the start and end of the run without a break around `middle`."""
    after = _BREAK.search(text, middle)
    start = middle
    while start > 0 and not _BREAK.match(text, start - 1):
        start -= 1
    return start, after.start() if after else len(text)
