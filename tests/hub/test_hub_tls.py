"""TLS to an index: who it is, who vouches for it, and through which proxy, as the environment says."""

from __future__ import annotations

import select
import shutil
import socket
import ssl
import subprocess
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from fake_hub import LoopbackServer
from fake_index import FakeIndex, wheel
from omnivec import hub as omnivec_hub
from omnivec.errors import DownloadError

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that vouches for itself, with its key."""
    folder = tmp_path_factory.mktemp("tls")
    key, file, both = folder / "key.pem", folder / "certificate.pem", folder / "both.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=tests"
    )
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(file)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    both.write_text(key.read_text() + file.read_text())
    return both


@pytest.fixture
def secure(certificate: Path, monkeypatch: pytest.MonkeyPatch):
    """An index that is asked by TLS."""
    server = FakeIndex()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
    server.url = server.url.replace("http://", "https://")
    server.add("tiny", wheel("tiny", "1.0", {"tiny/model/modules.json": b"[]"}))
    monkeypatch.setenv("PIP_INDEX_URL", server.simple)
    with server:
        yield server


class Tunnel(LoopbackServer):
    """A proxy that connects to whatever it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked_for: list[str] = []
        handlers: Any = self._server.RequestHandlerClass
        handlers.do_CONNECT = lambda handler: self._serve(handler)

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked_for.append(f"{handler.command} {handler.path}")
        host, _, port = handler.path.rpartition(":")
        with socket.create_connection((host, int(port))) as there:
            handler.send_response(200)
            handler.end_headers()
            ends = {handler.connection: there, there: handler.connection}
            while ready := select.select(list(ends), [], [], 5)[0]:
                for end in ready:
                    if not (data := end.recv(65536)):
                        handler.close_connection = True
                        return
                    ends[end].sendall(data)


def found() -> str:
    return omnivec_hub.resolve("pypi:tiny", known={}).source


def test_a_certificate_that_nobody_vouches_for_is_refused(secure):
    with pytest.raises(
        DownloadError, match=r"its certificate is not trusted \(self.signed certificate\): set"
    ):
        found()
    assert secure.requests == []


@pytest.mark.parametrize("variable", ["PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_variable_names_the_authorities(secure, certificate, monkeypatch, variable):
    monkeypatch.setenv(variable, str(certificate))
    assert found() == "pypi:tiny==1.0"


def test_a_trusted_host_needs_none(secure, monkeypatch):
    monkeypatch.setenv("PIP_TRUSTED_HOST", "127.0.0.1")
    assert found() == "pypi:tiny==1.0"


@pytest.mark.parametrize("variable", ["PIP_PROXY", "HTTPS_PROXY", "https_proxy"])
def test_a_proxy_leads_there_and_sees_only_the_host(secure, certificate, monkeypatch, variable):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with Tunnel() as proxy:
        monkeypatch.setenv(variable, proxy.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert found() == "pypi:tiny==1.0"
        assert proxy.asked_for == []
        monkeypatch.setenv("NO_PROXY", "elsewhere")
        assert omnivec_hub.resolve("pypi:tiny/tiny/model", known={}).source == "pypi:tiny==1.0/tiny/model"
        assert set(proxy.asked_for) == {f"CONNECT {secure.url.removeprefix('https://')}"}
