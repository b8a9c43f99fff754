"""What servers say, in the only forms that are believed: every field is checked before anything is done with it.

A field that has another form is a DownloadError that names it; one bad link of a page costs only that link.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Any
from urllib.parse import urlsplit

from omnivec.errors import DownloadError
from omnivec.validation import typed
from omnivec.validation.typed import Between

MAX_PAGE = 64 << 20
"""Bytes of a page: the largest of the public index has 10 million."""
MAX_FILE = 1 << 42
"""Bytes of a file: four times the largest that the hub takes."""
_MAX_NAME = 255

_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
# Windows opens a device by such a name, whatever its suffix.
_RESERVED = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3])(\..*)?", re.IGNORECASE
)
_NEVER = re.compile(r'[\x00-\x1f\x7f\\:*?"<>|\ud800-\udfff]')

Bytes = Annotated[int, Between(0, MAX_FILE)]


@dataclass(frozen=True)
class Offer:
    """A file on a page of a package index (PEP 691)."""

    filename: str
    url: str
    hashes: Mapping[str, Any] | None = None
    yanked: bool | str = False
    size: Bytes | None = None


@dataclass(frozen=True)
class Offers:
    """Such a page; each file is read by itself."""

    files: tuple[Any, ...]


@dataclass(frozen=True)
class RepositoryListing:
    """A repository of the hub; each file is read by itself."""

    sha: str | None = None
    siblings: tuple[Any, ...] | None = None


@dataclass(frozen=True)
class Listed:
    """A file of a repository of the hub."""

    rfilename: str
    size: Bytes | None = None


def offers(raw: object, page: str) -> tuple[Any, ...]:
    """The files on a page of an index.

    Raises:
        DownloadError: it is no such page.
    """
    return typed.read(Offers, raw, page, DownloadError).files


def offer(raw: object, page: str) -> Offer:
    """A file of a page.

    Raises:
        DownloadError: a field is missing or has another form.
    """
    offered = typed.read(Offer, raw, page, DownloadError)
    check_name(offered.filename, page)
    return offered


def sha256(raw: object, page: str) -> str | None:
    """A hash as a page states it, in lower case; None where it states none.

    Raises:
        DownloadError: it is no sha256.
    """
    if raw is None:
        return None
    if not isinstance(raw, str) or not _SHA256.fullmatch(raw.lower()):
        raise DownloadError(f"{page}: a sha256 {_shown(raw)}, where 64 hexadecimal digits are expected")
    return raw.lower()


def commit(raw: object, place: str) -> str:
    """A commit's name.

    Raises:
        DownloadError: it is none.
    """
    if not isinstance(raw, str) or not _COMMIT.fullmatch(raw):
        raise DownloadError(f"{place}: a commit {_shown(raw)}, where 40 hexadecimal digits are expected")
    return raw


def check_url(url: str, page: str) -> None:
    """Raises DownloadError unless a URL is http or https with a host and a port that can be."""
    try:
        parts = urlsplit(url)
        fits = (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and (parts.port is None or parts.port > 0)
        )
    except ValueError:
        fits = False
    if not fits or re.search(r"[\x00-\x20\x7f]", url):
        raise DownloadError(f"{page}: {_shown(url)} is no http or https address")


def check_name(name: str, page: str) -> None:
    """Raises DownloadError unless a text is the name of a file on every system, without a folder."""
    if "/" in name or why_no_path(name):
        raise DownloadError(f"{page}: {_shown(name)} is no file name")


def why_no_path(path: str) -> str | None:
    """Why a text is no path below a folder on every system; None where it is."""
    parts = path.split("/")
    if PurePosixPath(path).is_absolute() or ".." in parts:
        return "leads out of its folder"
    if _NEVER.search(path):
        return "has a character that no file's name may have"
    if any(
        not part or part == "." or part.endswith((" ", ".")) or _RESERVED.fullmatch(part) for part in parts
    ):
        return "has a part that is no file's name on every system"
    if any(len(part.encode("utf-8", "replace")) > _MAX_NAME for part in parts) or len(path) > 4 * _MAX_NAME:
        return "has a name that is too long"
    return None


def _shown(raw: object) -> str:
    text = repr(raw)
    return text if len(text) <= 80 else text[:77] + "..."
