"""HTTP with the standard library: proxies, certificates, credentials, and downloads that resume.

A worked example of `download`. An earlier attempt was cut off and left 300 bytes in the file `part`; the index states
1,000 bytes. The request has the header "Range: bytes=300-". What happens depends on the answer:

    206, Content-Range: bytes 300-999/1000    the 700 bytes are appended
    206, Content-Range: bytes 0-999/1000      another range: `part` is deleted, the next attempt begins at 0
    200                                       the server ignores ranges: `part` is written again from its beginning
    416, Content-Range: bytes */300           the file has 300 bytes: `part` is complete
    416, anything else                        the file has changed: `part` is deleted, the next attempt begins at 0
    408, 429, 500, 502, 503, 504, no answer   the next attempt resumes at byte 300
    403, 404, another status                  DownloadError; `part` stays as it is

Attempts go on while `part` grows; after four in a row without a new byte, DownloadError is raised, and `part` stays.
"""

from __future__ import annotations

import base64
import http.client
import io
import netrc
import os
import re
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit, urlunsplit

from omnivec.errors import DownloadError
from omnivec.hub.disk import check_room, disk_errors
from omnivec.hub.report import Reporter, megabytes
from omnivec.hub.served import MAX_FILE, MAX_PAGE, check_url

_CONNECT_SECONDS = 1.5
_PROBE_SECONDS = 2.0  # includes the DNS lookup, which a socket's timeout does not cover
_ATTEMPTS_WITHOUT_NEWS = 4
_BLOCK = 1 << 18
_TRANSIENT = {408, 429, 500, 502, 503, 504}
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class NetworkSettings:
    """Settings for connections to servers.

    Attributes:
        timeout: seconds to wait for a silent server.
        certificates: file or folder of certificate authorities; None for the system's.
        client_certificate: file with this client's certificate and key.
        proxy: URL of a proxy for all connections; None for those in the environment.
        trusted_hosts: "host" or "host:port" whose certificates are not checked.
        credentials: origin ("https://host:port") -> (user, password).
        slowest: bytes a second; a connection that is slower for `timeout` + `patience` seconds is given up.
        patience: see `slowest`.
    """

    timeout: float = 15.0
    certificates: str | None = None
    client_certificate: str | None = None
    proxy: str | None = None
    trusted_hosts: frozenset[str] = frozenset()
    credentials: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    slowest: float = 1000.0
    patience: float = 15.0

    @property
    def proxies(self) -> dict[str, str]:
        """Scheme -> URL of its proxy."""
        if self.proxy:
            return {"http": self.proxy, "https": self.proxy}
        return urllib.request.getproxies()

    def open(self, url: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        """Sends a GET request and returns the response; exceptions of urllib are not translated, see `why`."""
        opener = urllib.request.OpenerDirector()
        for handler in (  # without handlers of ftp:, data: and file:, to which a server must not redirect
            urllib.request.ProxyHandler(self.proxies),
            _Http(self),
            _Redirects(self),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            urllib.request.UnknownHandler(),
        ):
            opener.add_handler(handler)
        request = urllib.request.Request(url, headers={"User-Agent": "omnivec", **headers})
        self.authorise(request)
        response: http.client.HTTPResponse = opener.open(request, timeout=self.timeout)
        return response

    def authorise(self, request: urllib.request.Request) -> None:
        """Adds the credentials for the server of `request`; they are not sent on to the target of a redirect."""
        pair = self.credentials.get(origin_of(request.full_url)) or _from_netrc(request.full_url)
        if pair is not None:
            token = base64.b64encode(":".join(pair).encode()).decode("ascii")
            request.add_unredirected_header("Authorization", f"Basic {token}")

    def context(self, url: str) -> ssl.SSLContext:
        """The TLS context for the server of `url`.

        Raises:
            DownloadError: a file of certificates cannot be used.
        """
        parts = urlsplit(url)
        try:
            if self.certificates and Path(self.certificates).is_dir():
                context = ssl.create_default_context(capath=self.certificates)
            else:
                context = ssl.create_default_context(cafile=self.certificates)
            if self.client_certificate:
                context.load_cert_chain(self.client_certificate)
        except OSError as exc:
            files = " or ".join(each for each in (self.certificates, self.client_certificate) if each)
            raise DownloadError(
                f"certificates {files} cannot be used ({exc}); see PIP_CERT and PIP_CLIENT_CERT"
            ) from exc
        if {parts.hostname, parts.netloc} & self.trusted_hosts:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


class TooSlow(DownloadError):
    """A server that sends data too slowly."""


class Pace:
    """Measures whether bytes arrive fast enough: at least `slowest` a second, over periods of `patience` seconds."""

    def __init__(self, slowest: float, patience: float) -> None:
        self._slowest, self._patience = slowest, patience
        self._begun, self._received = time.monotonic(), 0

    def is_too_slow(self, count: int) -> bool:
        """Counts bytes; whether a period ends now in which too few arrived."""
        self._received += count
        passed = time.monotonic() - self._begun
        if passed <= self._patience:
            return False
        too_few = self._received < self._slowest * passed
        self._begun, self._received = time.monotonic(), 0
        return too_few


class _Paced(io.RawIOBase):
    """The raw stream of a response, headers included, which raises TooSlow if it is too slow."""

    def __init__(self, raw: io.RawIOBase, network: NetworkSettings) -> None:
        self._raw, self._network = raw, network
        self._pace = Pace(network.slowest, network.timeout + network.patience)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count: int = self._raw.readinto(buffer)
        if self._pace.is_too_slow(count or 0) and count:
            raise TooSlow(f"sends fewer than {self._network.slowest:g} bytes a second")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


def _paced(
    connection_class: type[http.client.HTTPConnection], network: NetworkSettings
) -> type[http.client.HTTPConnection]:
    """A class of connections whose responses are read through `_Paced`."""

    class Response(http.client.HTTPResponse):
        def __init__(
            self, sock: socket.socket, debuglevel: int = 0, method: str | None = None, url: str | None = None
        ) -> None:
            super().__init__(sock, debuglevel, method, url)
            self.fp = io.BufferedReader(_Paced(self.fp.detach(), network))

    class Connection(connection_class):  # type: ignore[misc, valid-type]
        response_class = Response

    return Connection


class _Http(urllib.request.HTTPHandler):
    """HTTP and HTTPS with a minimum speed. Each server has its own TLS context: a redirect may leave a trusted host."""

    https_request = urllib.request.HTTPHandler.http_request

    def __init__(self, network: NetworkSettings) -> None:
        super().__init__()
        self._network = network

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_paced(http.client.HTTPConnection, self._network), req)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        context = self._network.context(req.full_url)
        return self.do_open(_paced(http.client.HTTPSConnection, self._network), req, context=context)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects with the credentials of the target server only."""

    def __init__(self, network: NetworkSettings) -> None:
        self._network = network

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        check_url(newurl, without_credentials(req.full_url))
        fresh = super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
        fp.close()  # urllib would read the whole body
        if fresh is not None and not (req.type == "https" and fresh.type == "http"):
            self._network.authorise(fresh)
        return fresh


def origin_of(url: str) -> str:
    """Scheme, host and port of `url`; a default port is added."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{parts.port or _PORTS.get(parts.scheme, 0)}"


def without_credentials(url: str) -> str:
    """`url` without user and password, the form for all messages."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _from_netrc(url: str) -> tuple[str, str] | None:
    file = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    try:
        entry = netrc.netrc(file).authenticators(urlsplit(url).hostname or "")
    except (OSError, netrc.NetrcParseError):
        return None
    return (entry[0], entry[2] or "") if entry else None


def unreachable(url: str, proxies: Mapping[str, str] | None = None) -> str | None:
    """Why no connection to the server of `url`, or to its proxy, succeeds within 2 s; None if one does."""
    try:
        parts = urlsplit(url)
        proxies = urllib.request.getproxies() if proxies is None else proxies
        proxy = proxies.get(parts.scheme) or proxies.get("all")
        if proxy and not urllib.request.proxy_bypass(parts.netloc):
            parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        address = (parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 1080))
    except ValueError as exc:
        return f"not a URL: {exc}"
    outcome: list[str | None] = []

    def connect() -> None:
        try:
            socket.create_connection(address, timeout=_CONNECT_SECONDS).close()
            outcome.append(None)
        except (OSError, UnicodeError) as exc:
            outcome.append(getattr(exc, "strerror", None) or str(exc))

    probe = threading.Thread(target=connect, daemon=True)
    probe.start()
    probe.join(_PROBE_SECONDS)
    return outcome[0] if outcome else f"no answer within {_PROBE_SECONDS:g} s"


def why(exc: Exception) -> str:
    """A short line about an exception of urllib, http.client or ssl."""
    if isinstance(exc, urllib.error.HTTPError):
        if exc.code in (401, 403):
            return (
                f"refused with {exc.code}: put user:password@ into the index URL, or an entry into ~/.netrc"
            )
        return f"answered {exc.code} {exc.reason}"
    if isinstance(exc, urllib.error.URLError) and isinstance(exc.reason, Exception):
        exc = exc.reason
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({exc.verify_message}): set PIP_CERT to your authority's file"
    if isinstance(exc, TimeoutError):
        return "no answer in time"
    text = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
    return str(text).splitlines()[0]


@dataclass(frozen=True)
class WebPage:
    """A page: its URL after redirects, its content type, its text."""

    url: str
    kind: str
    text: str


def read_page(url: str, accept: str, network: NetworkSettings) -> WebPage | None:
    """Reads a page; None if the server has no such page.

    Raises:
        DownloadError: any other failure.
    """
    try:
        with network.open(url, {"Accept": accept}) as response:
            content_type = response.headers.get_content_type()
            body = b"".join(_limited(response, MAX_PAGE, url))
            return WebPage(response.geturl(), content_type, body.decode("utf-8"))
    except urllib.error.HTTPError as exc:
        exc.close()
        if exc.code in (404, 410):
            return None
        raise DownloadError(f"{without_credentials(url)} {why(exc)}") from exc
    except TooSlow as slow:
        raise DownloadError(f"{without_credentials(url)} {slow}: given up") from slow
    except (OSError, http.client.HTTPException, ValueError) as exc:
        raise DownloadError(f"{without_credentials(url)} cannot be read: {why(exc)}") from exc


class _Again(Exception):
    """An attempt failed, but another may succeed."""


def _limited(response: http.client.HTTPResponse, most: int, url: str) -> Iterator[bytes]:
    """The blocks of a response as they arrive; DownloadError if there are more bytes than expected."""
    received = 0
    while block := response.read1(_BLOCK):
        received += len(block)
        if received > most:
            raise DownloadError(
                f"{without_credentials(url)} sends more than the {megabytes(most)} that are expected: refused"
            )
        yield block


def download(
    url: str, part: Path, *, size: int | None, network: NetworkSettings, report: Reporter, label: str
) -> None:
    """Downloads `url` to the file `part`, continuing where an earlier attempt or process stopped.

    Args:
        url: of the file.
        part: the file on disk; after a failure of the network, or an interrupt, it keeps the bytes received so far.
        size: number of bytes expected; None if the index does not state it.
        network: settings for the connection.
        report: receives the progress.
        label: for the progress bar.

    Raises:
        DownloadError: the server refuses, or the connection is cut again and again; or the disk is full or the file
            larger than expected, and then `part` is deleted.
    """
    fruitless = 0
    while True:
        before = _length(part)
        if size is not None and before == size:
            return
        if size is not None and before > size:
            part.unlink()
        try:
            return _attempt(url, part, network, report, label, MAX_FILE if size is None else size)
        except TooSlow as slow:
            raise DownloadError(
                f"{without_credentials(url)} {slow}: given up; {megabytes(_length(part))} are kept, and the next "
                "attempt goes on from there"
            ) from slow
        except _Again as again:
            fruitless = 0 if _length(part) > before else fruitless + 1
            if fruitless == _ATTEMPTS_WITHOUT_NEWS:
                raise DownloadError(
                    f"{without_credentials(url)}: {again}, {fruitless} times in a row; "
                    f"{megabytes(_length(part))} are kept, and the next attempt goes on from there"
                ) from again.__cause__
            time.sleep(0.1 * 3**fruitless)


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _attempt(url: str, part: Path, network: NetworkSettings, report: Reporter, label: str, most: int) -> None:
    offset = _length(part)
    try:
        response = network.open(url, {"Range": f"bytes={offset}-"} if offset else {})
    except urllib.error.HTTPError as exc:
        exc.close()
        if exc.code == 416 and offset:
            if exc.headers.get("Content-Range", "") == f"bytes */{offset}":
                return  # `part` was complete
            part.unlink()
            raise _Again("the file changed on the server") from exc
        if exc.code in _TRANSIENT:
            raise _Again(why(exc)) from exc
        raise DownloadError(f"{without_credentials(url)} {why(exc)}") from exc
    except (OSError, http.client.HTTPException) as exc:
        raise _Again(why(exc)) from exc
    with response:
        _receive(response, part, _start(response, offset), report, label, most)


def _start(response: http.client.HTTPResponse, offset: int) -> int:
    """The offset in the file at which the response begins: `offset`, or 0 from a server that ignores ranges."""
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return offset if response.status == 206 and match and int(match[1]) == offset else 0


def _receive(
    response: http.client.HTTPResponse, part: Path, start: int, report: Reporter, label: str, most: int
) -> None:
    if response.status == 206 and start == 0 and _length(part):
        part.unlink()
        raise _Again("the server sent another range than was requested")
    length = response.headers.get("Content-Length")
    coming = int(length) if length and length.isascii() and length.isdigit() and len(length) < 20 else None
    total = None if coming is None else start + coming
    setting, url = "OMNIVEC_CACHE", response.geturl()
    try:
        if total is not None and total > most:
            raise DownloadError(
                f"{without_credentials(url)} states {total:,} bytes where {most:,} are expected: refused"
            )
        if coming is not None:
            check_room(part.parent, coming, setting)
        report.progress.start(label, total)
        report.progress.advance(start)
        with disk_errors(part.parent, total or 0, setting), part.open("r+b" if start else "wb") as file:
            file.seek(start)
            file.truncate()
            received = 0
            for block in _blocks(response, most - start, url):
                file.write(block)
                received += len(block)
                report.progress.advance(len(block))
    except DownloadError as error:
        if not isinstance(error, TooSlow):
            part.unlink(missing_ok=True)
        raise
    finally:
        report.progress.done()
    if coming is not None and received < coming:
        raise _Again(f"the server closed the connection after {received:,} of {coming:,} bytes")


def _blocks(response: http.client.HTTPResponse, most: int, url: str) -> Iterator[bytes]:
    """`_limited`, with `_Again` for failures of the network."""
    try:
        yield from _limited(response, most, url)
    except (OSError, http.client.HTTPException) as exc:
        raise _Again(why(exc)) from exc
