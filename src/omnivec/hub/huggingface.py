"""Downloads a repository of the Hugging Face hub by huggingface_hub, into the cache that all its users share."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any
from urllib.parse import quote

from omnivec.errors import DownloadError, ModelNotFound, OmnivecError
from omnivec.files import written
from omnivec.hub.cache import hub_cache_folder, repository_folder
from omnivec.hub.completeness import useful, weights
from omnivec.hub.disk import disk_errors, refused, verify
from omnivec.hub.names import ModelRequest, Repository, Resolved
from omnivec.hub.report import Progress, Reporter, megabytes
from omnivec.hub.served import (
    MAX_FILE,
    MAX_PAGE,
    Listed,
    RepositoryListing,
    check_name,
    check_url,
    commit,
    why_no_path,
)
from omnivec.hub.transfer import Pace, unreachable
from omnivec.validation import typed
from omnivec.validation.reasons import one_line

_HUB = "https://huggingface.co"
_ANSWER_SECONDS = 5.0
# A download is given up if the server sends fewer bytes a second than this, for this many seconds.
_SLOWEST, _PATIENCE = 1000, 30.0
_SETTING = "HF_HUB_CACHE"
_STATE = threading.Lock()  # held while state of huggingface_hub is changed
_in_fetch: ContextVar[bool] = ContextVar("_in_fetch", default=False)
_gathered: list[int] = []  # the original DOWNLOAD_CHUNK_SIZE, once for each file that is being downloaded


def fetch(repository: Repository, wanted: ModelRequest, report: Reporter) -> Resolved:
    """Downloads the useful files of `repository` at one commit.

    The endpoint is HF_ENDPOINT; the token is HF_TOKEN, or that of `hf auth login`.

    Raises:
        ModelNotFound: there is no such repository or revision, or it has no weights.
        DownloadError: it is gated or not reachable, the connection broke off, the disk is full, or a hash is wrong.
    """
    endpoint = (os.environ.get("HF_ENDPOINT") or _HUB).rstrip("/")
    check_url(endpoint, "HF_ENDPOINT")
    if reason := unreachable(endpoint):
        raise DownloadError(
            f"hub not reachable at {endpoint} ({reason}); set HF_ENDPOINT to a mirror, or copy the model's folder "
            "here and give the path"
        )
    _prepare()
    begun = time.monotonic()
    needed = [0]  # set by `_download` once the hub has listed the files
    try:
        with _headers_alone():
            commit, size = _download(repository, endpoint, report, needed)
    except OmnivecError:
        raise
    # Major versions of huggingface_hub use different HTTP libraries, which raise different exceptions.
    except Exception as exc:
        raise _explain(exc, repository, endpoint, needed[0]) from exc
    snapshot = repository_folder(repository) / "snapshots" / commit
    verify(snapshot, wanted.hashes(repository), repository)
    with disk_errors(snapshot, 0, _SETTING):
        _write_reference(repository, commit)
    seconds = time.monotonic() - begun
    report.say(f"downloaded {megabytes(size)} from {repository} in {seconds:.1f} s")
    return Resolved(snapshot, f"hf:{repository.name}@{commit}", wanted.name)


def _prepare() -> None:
    """Sets variables that huggingface_hub reads when it is imported."""
    # Users of omnivec have not agreed to telemetry.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # A stalled connection is resumed up to five times: with the default of 10 s, a dead one would take a minute.
    os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", "4")


def _download(repository: Repository, endpoint: str, report: Reporter, needed: list[int]) -> tuple[str, int]:
    """Downloads the useful files of a repository to the hub's cache; returns the commit and the number of bytes.

    Files are downloaded one by one, not as a snapshot, so that each request has a time limit and weights come last.
    """
    from huggingface_hub import hf_hub_download

    place = f"{endpoint}/{repository.name}"
    listing = _list(repository, endpoint)
    listed = [typed.read(Listed, each, place, DownloadError) for each in listing.siblings or ()]
    sizes = {each.rfilename: each.size or 0 for each in listed if why_no_path(each.rfilename) is None}
    files = useful(sizes)
    if listing.sha is not None:
        commit(listing.sha, place)
    if listing.sha is None or not weights(files):
        names = ", ".join(sorted(sizes)[:8]) or "nothing"
        raise ModelNotFound(f"{repository} has no weights that omnivec reads (it has {names})")
    needed[0] = sum(sizes[file] for file in files)
    stated = _ask_for(files[0], repository, listing.sha, endpoint)
    snapshot = repository_folder(repository) / "snapshots" / listing.sha
    report.progress.start(str(repository), needed[0])
    try:
        for file in files:
            if file != files[0]:
                stated = _ask_for(file, repository, listing.sha, endpoint)
            with _as_it_comes():
                hf_hub_download(
                    repository.name,
                    file,
                    revision=listing.sha,
                    endpoint=endpoint,
                    cache_dir=hub_cache_folder(),
                    etag_timeout=_ANSWER_SECONDS,
                    tqdm_class=_bar(report.progress, sizes[file] or MAX_FILE, f"{place}: {file}"),
                )
            if stated is not None:
                verify(snapshot, {file: stated}, repository)
    finally:
        report.progress.done()
    return listing.sha, needed[0]


@contextmanager
def _as_it_comes() -> Iterator[None]:
    """Makes huggingface_hub write and report bytes as they arrive, as long as any thread is inside such a block.

    By default it collects 10 MB before it writes them and updates the progress bar. A connection that breaks off would
    lose them, and a server that sends a byte every few seconds, which exceeds no read timeout, would not be noticed.
    """
    from huggingface_hub import constants

    with _STATE:
        _gathered.append(_gathered[0] if _gathered else constants.DOWNLOAD_CHUNK_SIZE)
        constants.DOWNLOAD_CHUNK_SIZE = None  # type: ignore[assignment]
    try:
        yield
    finally:
        with _STATE:
            size = _gathered.pop()
            if not _gathered:
                constants.DOWNLOAD_CHUNK_SIZE = size


def _list(repository: Repository, endpoint: str) -> RepositoryListing:
    """The hub's description of a repository; HfApi.model_info is not used, since it reads a page of any size."""
    url = f"{endpoint}/api/models/{repository.name}/revision/{quote(repository.revision, safe='')}?blobs=true"
    try:
        page = json.loads(_read_page(url))
    except (ValueError, RecursionError) as exc:
        raise DownloadError(f"{url} is not a description of a repository: {one_line(exc)}") from exc
    return typed.read(RepositoryListing, page, url, DownloadError)


def _read_page(url: str) -> bytes:
    """Reads a page of limited size with huggingface_hub's HTTP client and token."""
    from huggingface_hub import get_session, hf_raise_for_status
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    limits, parts = _FileLimits(MAX_PAGE, url), []
    with get_session().stream("GET", url, headers=build_hf_headers(), timeout=_ANSWER_SECONDS) as response:
        hf_raise_for_status(response)
        for part in response.iter_bytes():  # Decompressed bytes, which are those that take memory.
            limits.took(len(part))
            parts.append(part)
    return b"".join(parts)


@contextmanager
def _headers_alone() -> Iterator[None]:
    """Makes huggingface_hub's client read only the headers of errors and redirects, for requests of this thread.

    By default it reads their bodies, of any size, into memory.
    """
    from huggingface_hub import get_session

    hooks = get_session().event_hooks["response"]
    with _STATE:
        if _drop_body not in hooks:
            hooks.append(_drop_body)
    token = _in_fetch.set(True)
    try:
        yield
    finally:
        _in_fetch.reset(token)


def _drop_body(response: Any) -> None:
    """A hook that the client calls before it reads a body; requests from outside of `fetch` are left alone."""
    if _in_fetch.get() and not response.is_success:
        response.stream.close()
        response.stream = type(response)(
            response.status_code
        ).stream  # the stream of a response without a body


def _ask_for(file: str, repository: Repository, commit: str, endpoint: str) -> str | None:
    """Checks that the server answers for a file, for which hf_hub_download itself would wait for minutes.

    The commit and the etag, from which huggingface_hub makes paths, are checked too.

    Returns:
        The sha256 that the server states, or None. The etag of files in large-file storage, such as weights, is one.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(repository.name, file, revision=commit, endpoint=endpoint)
    metadata = get_hf_file_metadata(url, timeout=_ANSWER_SECONDS, endpoint=endpoint)
    if metadata.commit_hash not in (None, commit):
        raise DownloadError(f"{url} is from the commit {metadata.commit_hash!r}, where {commit} is expected")
    if metadata.etag is not None:
        check_name(metadata.etag, f"{url}: its etag")
    return metadata.etag if re.fullmatch("[0-9a-f]{64}", metadata.etag or "") else None


def _write_reference(repository: Repository, commit: str) -> None:
    """Writes the commit of a branch or tag as the hub's cache does; last, so that it refers to a complete snapshot."""
    if repository.revision == commit:
        return
    reference = repository_folder(repository) / "refs" / repository.revision
    reference.parent.mkdir(parents=True, exist_ok=True)
    with written(
        reference, durable=False, error=DownloadError
    ) as fresh:  # if it is lost, it is downloaded again
        fresh.write_text(commit, "ascii")


class _FileLimits:
    """Limits for one file from a server: no more bytes than expected, and a minimum speed."""

    def __init__(self, most: int, label: str) -> None:
        self._most, self._label, self._received = most, label, 0
        self._pace = Pace(_SLOWEST, _PATIENCE)

    def took(self, count: int) -> None:
        """Counts received bytes; raises DownloadError if they are too many, or if they come too slowly."""
        self._received += count
        if self._received > self._most:
            raise DownloadError(
                f"{self._label} sends more than the {megabytes(self._most)} that are expected: refused"
            )
        if self._pace.is_too_slow(count):
            raise DownloadError(f"{self._label} sends fewer than {_SLOWEST:,} bytes a second: given up")


def _bar(progress: Progress, most: int, label: str) -> type:
    """A class with the interface of huggingface_hub's progress bar, which reports bytes to `progress`.

    It also ends a download that is larger than stated, or too slow.
    """
    limits = _FileLimits(most, label)

    class Bar:
        total: int | None = None

        def __init__(self, *, initial: int = 0, **_: object) -> None:
            progress.advance(initial)
            limits.took(initial)

        def __enter__(self) -> Bar:
            return self

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            pass

        def update(self, n: float | None = 1) -> None:
            progress.advance(int(n or 0))
            limits.took(int(n or 0))

        def update_transfer(self, n: float | None = 1) -> None:
            """Ignores bytes on the wire, which `update` has counted as bytes on the disk."""

        def set_postfix_str(self, text: str = "", refresh: bool = True) -> None:
            pass

        def set_transfer_postfix_str(self, text: str = "", refresh: bool = True) -> None:
            pass

        def refresh(self) -> None:
            pass

        def close(self) -> None:
            pass

    return Bar


def _explain(exc: Exception, repository: Repository, endpoint: str, needed: int) -> OmnivecError:
    """The omnivec error for an exception of huggingface_hub."""
    from huggingface_hub import errors

    if isinstance(exc, errors.LocalEntryNotFoundError) and isinstance(exc.__cause__, Exception):
        exc = exc.__cause__
    status = getattr(getattr(exc, "response", None), "status_code", None)
    page = f"{endpoint}/{repository.name}"
    name, revision = repository.name, repository.revision
    if isinstance(exc, errors.GatedRepoError):
        return DownloadError(f"{name} is gated ({status}); accept its terms at {page}, then set HF_TOKEN")
    if isinstance(exc, errors.RepositoryNotFoundError):
        return ModelNotFound(
            f"{endpoint} has no repository {name} ({status}); if it is private, set HF_TOKEN"
        )
    if isinstance(exc, errors.RevisionNotFoundError):
        return ModelNotFound(
            f"{name} has no revision {revision!r} ({status}); its revisions are listed at {page}"
        )
    if isinstance(exc, errors.EntryNotFoundError) and status:
        return DownloadError(
            f"{name} lists a file that {endpoint} does not have ({status}): {_first_line(exc)}"
        )
    if status in (401, 403):
        return DownloadError(
            f"{endpoint} refused {name} ({status}); set HF_TOKEN to a token that may read it"
        )
    if status is not None:
        return DownloadError(f"{endpoint} answered {status} for {name}; try again later")
    if isinstance(exc, errors.OfflineModeIsEnabled):
        return DownloadError(
            "huggingface_hub was imported in offline mode: unset HF_HUB_OFFLINE and start again"
        )
    if (
        isinstance(exc, OSError)
        and exc.errno is not None
        and not isinstance(exc, ConnectionError | TimeoutError)
    ):
        return refused(exc, hub_cache_folder(), needed, _SETTING)
    reason = _first_line(exc)
    return DownloadError(
        f"the download of {name} from {endpoint} broke off ({reason}); try again: it continues where it stopped"
    )


def _first_line(exc: Exception) -> str:
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[-1] if len(lines) > 1 and lines[0].endswith("Error.") else (lines or [type(exc).__name__])[0]
