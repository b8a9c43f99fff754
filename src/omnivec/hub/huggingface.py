"""A repository of the Hugging Face hub, through huggingface_hub into the cache that all its users share."""

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
# Who sends less than this many bytes a second for so many seconds on end is given up.
_SLOWEST, _PATIENCE = 1000, 30.0
_SETTING = "HF_HUB_CACHE"
_STATE = threading.Lock()  # of what is changed of the hub's library
_in_fetch: ContextVar[bool] = ContextVar("_in_fetch", default=False)
_gathered: list[int] = []  # DOWNLOAD_CHUNK_SIZE as it was, once for each file that is being downloaded


def fetch(repository: Repository, wanted: ModelRequest, report: Reporter) -> Resolved:
    """The useful files of `repository`, at one commit.

    The endpoint is HF_ENDPOINT, the token HF_TOKEN or that of `hf auth login`.

    Raises:
        ModelNotFound: no such repository or revision, or it has no weights.
        DownloadError: gated, unreachable, cut, disk full, wrong checksum.
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
    needed = [0]  # known once the hub has listed the files
    try:
        with _headers_alone():
            commit, size = _download(repository, endpoint, report, needed)
    except OmnivecError:
        raise
    # Its HTTP library, and so what it raises, changes from one major version to the next.
    except Exception as exc:
        raise _explain(exc, repository, endpoint, needed[0]) from exc
    snapshot = repository_folder(repository) / "snapshots" / commit
    verify(snapshot, wanted.sha256, repository)
    with disk_errors(snapshot, 0, _SETTING):
        _write_reference(repository, commit)
    seconds = time.monotonic() - begun
    report.say(f"downloaded {megabytes(size)} from {repository} in {seconds:.1f} s")
    return Resolved(snapshot, f"hf:{repository.name}@{commit}", wanted.name)


def _prepare() -> None:
    """Settings that huggingface_hub reads when it is imported."""
    # Nobody agreed to be counted by asking for a vector.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # A stalled connection is resumed up to five times: at its 10 s each, a dead one would hang for a minute.
    os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", "4")


def _download(repository: Repository, endpoint: str, report: Reporter, needed: list[int]) -> tuple[str, int]:
    """The commit, and the bytes of its useful files, all of them in the hub's cache when this returns.

    File by file, not as a snapshot: that way each request has a time limit, and weights can come last.
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
        held = ", ".join(sorted(sizes)[:8]) or "nothing"
        raise ModelNotFound(f"{repository} has no weights that omnivec reads (it has {held})")
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
    """Has the hub's library tell of bytes as they arrive, until no thread needs it any more.

    It gathers 10 MB before it writes them and tells the bar. A connection that is cut would lose them, and a server
    that sends a byte every few seconds, which no time limit of a single read ends, would go unnoticed.
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
    """What the hub says of a repository: HfApi.model_info would hold its page whole, whatever its size."""
    url = f"{endpoint}/api/models/{repository.name}/revision/{quote(repository.revision, safe='')}?blobs=true"
    try:
        page = json.loads(_read_page(url))
    except (ValueError, RecursionError) as exc:
        raise DownloadError(f"{url} is no description of a repository: {one_line(exc)}") from exc
    return typed.read(RepositoryListing, page, url, DownloadError)


def _read_page(url: str) -> bytes:
    """The page, by the hub's client and with its token."""
    from huggingface_hub import get_session, hf_raise_for_status
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    limits, parts = _FileLimits(MAX_PAGE, url), []
    with get_session().stream("GET", url, headers=build_hf_headers(), timeout=_ANSWER_SECONDS) as response:
        hf_raise_for_status(response)
        for part in response.iter_bytes():  # Unpacked: it is what takes memory.
            limits.took(len(part))
            parts.append(part)
    return b"".join(parts)


@contextmanager
def _headers_alone() -> Iterator[None]:
    """Has the hub's client read nothing but the headers of refusals and redirects, in answer to this thread.

    It would hold their bodies whole, whatever their size.
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
    """A hook of the hub's client, which it calls before it reads a body; it does nothing for other users of it."""
    if _in_fetch.get() and not response.is_success:
        response.stream.close()
        response.stream = type(response)(response.status_code).stream  # that of an answer without a body


def _ask_for(file: str, repository: Repository, commit: str, endpoint: str) -> str | None:
    """Makes sure that a file is served: hf_hub_download itself waits minutes for a silent server.

    What it makes paths of, the commit and the etag, is checked too.

    Returns:
        The sha256 that the server states; None for none. Of files that lie in large storage, as weights do, the etag
        is one.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(repository.name, file, revision=commit, endpoint=endpoint)
    metadata = get_hf_file_metadata(url, timeout=_ANSWER_SECONDS, endpoint=endpoint)
    if metadata.commit_hash not in (None, commit):
        raise DownloadError(f"{url} is of the commit {metadata.commit_hash!r}, where {commit} is expected")
    if metadata.etag is not None:
        check_name(metadata.etag, f"{url}: its etag")
    return metadata.etag if re.fullmatch("[0-9a-f]{64}", metadata.etag or "") else None


def _write_reference(repository: Repository, commit: str) -> None:
    """Notes the commit of a branch or tag as the hub's cache does; last, so that a noted commit is whole."""
    if repository.revision == commit:
        return
    reference = repository_folder(repository) / "refs" / repository.revision
    reference.parent.mkdir(parents=True, exist_ok=True)
    with written(reference, durable=False, error=DownloadError) as fresh:  # it can be asked for again
        fresh.write_text(commit, "ascii")


class _FileLimits:
    """What one file of a server may be: no more bytes than it stated, and not too slowly."""

    def __init__(self, most: int, label: str) -> None:
        self._most, self._label, self._received = most, label, 0
        self._pace = Pace(_SLOWEST, _PATIENCE)

    def took(self, count: int) -> None:
        """Raises DownloadError where these bytes are too many, or those of the last while too few."""
        self._received += count
        if self._received > self._most:
            raise DownloadError(
                f"{self._label} sends more than the {megabytes(self._most)} that are expected: refused"
            )
        if self._pace.is_too_slow(count):
            raise DownloadError(f"{self._label} sends fewer than {_SLOWEST:,} bytes a second: given up")


def _bar(progress: Progress, most: int, label: str) -> type:
    """A class that takes the place of the hub's own bar, with what is asked of one: bytes.

    It ends a download that goes on beyond the size that was stated, or hardly goes on.
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
            """Bytes on the wire, fewer than those on the disk: not counted twice."""

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
    """What huggingface_hub raised, in omnivec's words."""
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
        f"the download of {name} from {endpoint} broke off ({reason}); try again: it goes on"
    )


def _first_line(exc: Exception) -> str:
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[-1] if len(lines) > 1 and lines[0].endswith("Error.") else (lines or [type(exc).__name__])[0]
