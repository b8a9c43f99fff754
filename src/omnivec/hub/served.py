"""Checks of data from servers: every field is checked before it is used.

A field of another form raises a DownloadError that names it; of a page, only the invalid links are left out.
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
"""Most bytes of a page; the largest page of the public index has 10 million."""
MAX_FILE = 1 << 42
"""Most bytes of a file, four times as many as the hub allows."""
_MAX_NAME = 255

_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
# Names of devices on Windows, with any suffix.
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
    """A page of a package index (PEP 691); its files are checked one by one by `offer`."""

    files: tuple[Any, ...]


@dataclass(frozen=True)
class RepositoryListing:
    """The hub's description of a repository; its files are checked one by one as `Listed`."""

    sha: str | None = None
    siblings: tuple[Any, ...] | None = None


@dataclass(frozen=True)
class Listed:
    """A file in a repository of the hub."""

    rfilename: str
    size: Bytes | None = None


def offers(raw: object, page: str) -> tuple[Any, ...]:
    """The files on a page of an index.

    Raises:
        DownloadError: it is not a page of an index.
    """
    return typed.read(Offers, raw, page, DownloadError).files


def offer(raw: object, page: str) -> Offer:
    """A file on a page of an index.

    Raises:
        DownloadError: a field is missing or has another form.
    """
    offered = typed.read(Offer, raw, page, DownloadError)
    check_name(offered.filename, page)
    return offered


def sha256(raw: object, page: str) -> str | None:
    """A sha256 from a page, in lower case; None if the page states none.

    Raises:
        DownloadError: it is not 64 hexadecimal digits.
    """
    if raw is None:
        return None
    if not isinstance(raw, str) or not _SHA256.fullmatch(raw.lower()):
        raise DownloadError(f"{page}: a sha256 {_shown(raw)}, where 64 hexadecimal digits are expected")
    return raw.lower()


def commit(raw: object, place: str) -> str:
    """The id of a commit.

    Raises:
        DownloadError: it is not 40 hexadecimal digits.
    """
    if not isinstance(raw, str) or not _COMMIT.fullmatch(raw):
        raise DownloadError(f"{place}: a commit {_shown(raw)}, where 40 hexadecimal digits are expected")
    return raw


def check_url(url: str, page: str) -> None:
    """Raises DownloadError unless a URL is http or https with a host and, if it has one, a valid port."""
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
        raise DownloadError(f"{page}: {_shown(url)} is not an http or https URL")


def check_name(name: str, page: str) -> None:
    """Raises DownloadError unless a text is a valid file name on every system, without a folder."""
    if "/" in name or why_no_path(name):
        raise DownloadError(f"{page}: {_shown(name)} is not a file name")


def why_no_path(path: str) -> str | None:
    """Why a text is not a valid relative path on every system; None if it is valid."""
    parts = path.split("/")
    if PurePosixPath(path).is_absolute() or ".." in parts:
        return "leads out of its folder"
    if _NEVER.search(path):
        return "has a character that file names must not have"
    if any(
        not part or part == "." or part.endswith((" ", ".")) or _RESERVED.fullmatch(part) for part in parts
    ):
        return "has a part that is not a file name on every system"
    if any(len(part.encode("utf-8", "replace")) > _MAX_NAME for part in parts) or len(path) > 4 * _MAX_NAME:
        return "has a name that is too long"
    return None


def _shown(raw: object) -> str:
    text = repr(raw)
    return text if len(text) <= 80 else text[:77] + "..."
