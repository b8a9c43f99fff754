"""A hub on the loopback device: the part of its protocol that downloads use, with faults on demand."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]  # names in lower case


@dataclass
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None  # bytes of the body after which the connection is closed
    silent_for: float = 0.0  # seconds before the first byte
    pause: float = 0.0  # seconds after each byte
    ranges: bool = True


class LoopbackServer:
    """Serves what `answer` says, and remembers every request."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.closing = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:
                self._serve(handler)

            do_HEAD = do_GET

            def log_message(handler, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Any:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: Request) -> Answer:
        raise NotImplementedError

    def asked(self, ending: str, method: str = "GET") -> list[Request]:
        """The requests whose path ends so."""
        return [each for each in self.requests if each.method == method and each.path.endswith(ending)]

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        headers = {name.lower(): value for name, value in handler.headers.items()}
        request = Request(handler.command, unquote(urlsplit(handler.path).path), headers)
        self.requests.append(request)
        answer = self.answer(request)
        self.closing.wait(answer.silent_for)
        status, body = answer.status, answer.body
        asked = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
        extra = {}
        if asked and status == 200 and answer.ranges:
            start = int(asked[1])
            status = 206 if start < len(body) else 416
            tail = f"{start}-{len(body) - 1}" if status == 206 else "*"
            extra["Content-Range"] = f"bytes {tail}/{len(body)}"
            body = body[start:]
        try:
            handler.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **answer.headers, **extra}.items():
                handler.send_header(name, value)
            handler.end_headers()
            if request.method == "GET" and answer.pause:
                for at in range(len(body)):
                    handler.wfile.write(body[at : at + 1])
                    time.sleep(answer.pause)
            elif request.method == "GET":
                handler.wfile.write(body if answer.cut_after is None else body[: answer.cut_after])
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client went away: part of some tests


@dataclass
class FakeRepository:
    files: dict[str, bytes]
    commit: str
    revisions: set[str]
    gated: bool = False


class FakeHub(LoopbackServer):
    """Repositories that can be listed and downloaded.

    Attributes:
        cuts: file -> the bytes after which its next downloads are cut, one entry per download.
        absent: files that are listed and yet not there.
        slow: seconds between the bytes of every answer to a path ending in the key.
        silent: seconds that every answer to a path ending in the key takes.
        storage: URL of another server to which downloads are redirected.
    """

    def __init__(self) -> None:
        super().__init__()
        self.repositories: dict[str, list[FakeRepository]] = {}
        self.cuts: dict[str, list[int]] = {}
        self.absent: set[str] = set()
        self.silent: dict[str, float] = {}
        self.slow: dict[str, float] = {}
        self.storage: str | None = None

    def add(self, name: str, files: dict[str, bytes], *revisions: str, gated: bool = False) -> str:
        """Publishes `files` and returns the commit, which has the given names ("main" without any)."""
        text = repr((name, sorted(files.items())))
        commit = hashlib.sha1(text.encode()).hexdigest()
        repository = FakeRepository(files, commit, {commit, *(revisions or ("main",))}, gated)
        self.repositories.setdefault(name, []).append(repository)
        return commit

    def answer(self, request: Request) -> Answer:
        answer = self._answer(request)
        answer.pause = next((s for end, s in self.slow.items() if request.path.endswith(end)), 0.0)
        answer.silent_for = next((s for end, s in self.silent.items() if request.path.endswith(end)), 0.0)
        return answer

    def _answer(self, request: Request) -> Answer:
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/(.+?))?", request.path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", request.path)
        match = api or file
        if not match or match[1] not in self.repositories:
            return _refusal(404, "RepoNotFound")
        revision = (api[3] or "main") if api else match[2]
        found = [each for each in self.repositories[match[1]] if revision in each.revisions]
        if not found:
            return _refusal(404, "RevisionNotFound")
        if file:
            return self._file(found[0], file[3], request)
        return _listing(match[1], found[0], as_tree=match[2] == "tree")

    def _file(self, repository: FakeRepository, name: str, request: Request) -> Answer:
        if repository.gated and request.headers.get("authorization") != "Bearer let-me-in":
            return _refusal(403, "GatedRepo")
        if name not in repository.files or name in self.absent:
            return _refusal(404, "EntryNotFound")
        body = repository.files[name]
        headers = {
            "ETag": f'"{hashlib.sha256(body).hexdigest()}"',
            "X-Repo-Commit": repository.commit,
            "X-Linked-Size": str(len(body)),
            "X-Linked-Etag": f'"{hashlib.sha256(body).hexdigest()}"',
        }
        if self.storage:
            headers["Location"] = f"{self.storage}/{name}"
            return Answer(302, b"", headers)
        cuts = self.cuts.get(name)
        cut = cuts.pop(0) if cuts and request.method == "GET" else None
        return Answer(200, body, headers, cut_after=cut)


def _refusal(status: int, code: str) -> Answer:
    return Answer(status, b"", {"X-Error-Code": code, "X-Error-Message": code})


def _listing(name: str, repository: FakeRepository, as_tree: bool) -> Answer:
    if as_tree:
        listing: Any = [
            {"type": "file", "path": path, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}
            for path, body in repository.files.items()
        ]
    else:
        siblings = [{"rfilename": path, "size": len(body)} for path, body in repository.files.items()]
        listing = {"id": name, "modelId": name, "sha": repository.commit, "siblings": siblings, "tags": []}
    return Answer(200, json.dumps(listing).encode(), {"Content-Type": "application/json"})
