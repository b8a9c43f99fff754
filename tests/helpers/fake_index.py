"""A package index on the loopback device: the simple API in both its forms, with faults on demand."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fake_hub import Answer, LoopbackServer, Request

JSON = "application/vnd.pypi.simple.v1+json"


@dataclass
class FakeFile:
    name: str
    body: bytes
    yanked: bool = False
    sha256: str | None = None  # what the index claims; None for the truth, "" for no claim


class FakeIndex(LoopbackServer):
    """Packages with files.

    Attributes:
        as_json: whether the JSON form is offered to those who accept it.
        login: "user:password" that every request must state.
        cuts: file -> the bytes after which its next downloads are cut, one entry per download.
        ranges: whether downloads can go on in the middle.
        storage: URL of another server to which downloads are redirected.
    """

    def __init__(self, *, as_json: bool = True, login: str | None = None) -> None:
        super().__init__()
        self.as_json = as_json
        self.login = login
        self.packages: dict[str, list[FakeFile]] = {}
        self.cuts: dict[str, list[int]] = {}
        self.ranges = True
        self.storage: str | None = None

    @property
    def simple(self) -> str:
        return f"{self.url}/simple"

    def add(self, package: str, file: FakeFile) -> FakeFile:
        self.packages.setdefault(package, []).append(file)
        return file

    def answer(self, request: Request) -> Answer:
        if self.login is not None:
            expected = "Basic " + base64.b64encode(self.login.encode()).decode()
            if request.headers.get("authorization") != expected:
                return Answer(401)
        if page := re.fullmatch(r"/simple/([^/]+)/", request.path):
            files = self.packages.get(page[1])
            if files is None:
                return Answer(404)
            if self.as_json and JSON in request.headers.get("accept", ""):
                return Answer(200, _as_json(files), {"Content-Type": JSON})
            return Answer(200, as_html(files), {"Content-Type": "text/html; charset=utf-8"})
        name = request.path.rpartition("/")[2]
        for file in (each for files in self.packages.values() for each in files):
            if file.name == name:
                if self.storage:
                    return Answer(302, b"", {"Location": f"{self.storage}/files/{name}"})
                cuts = self.cuts.get(name)
                return Answer(200, file.body, cut_after=cuts.pop(0) if cuts else None, ranges=self.ranges)
        return Answer(404)


def _claimed(file: FakeFile) -> str:
    return hashlib.sha256(file.body).hexdigest() if file.sha256 is None else file.sha256


def _as_json(files: list[FakeFile]) -> bytes:
    rows = [
        {
            "filename": file.name,
            "url": f"../../files/{file.name}",
            "hashes": {"sha256": _claimed(file)} if _claimed(file) else {},
            "yanked": "broken" if file.yanked else False,
            "size": len(file.body),
        }
        for file in files
    ]
    return json.dumps({"meta": {"api-version": "1.1"}, "name": "x", "files": rows}).encode()


def as_html(files: list[FakeFile], folder: str = "../../files/") -> bytes:
    rows = "".join(
        f'<a href="{folder}{file.name}{"#sha256=" + _claimed(file) if _claimed(file) else ""}"'
        f"{' data-yanked' if file.yanked else ''}>{file.name}</a><br/>\n"
        for file in files
    )
    return f"<!DOCTYPE html><html><body>\n{rows}</body></html>".encode()


def wheel(
    package: str, version: str, files: Mapping[str, bytes], tags: str = "py3-none-any", **claims: Any
) -> FakeFile:
    """A wheel with `files`, and with the metadata that every wheel has."""
    distribution = package.replace("-", "_")
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
        archive.writestr(
            zipfile.ZipInfo(f"{distribution}-{version}.dist-info/METADATA"), f"Version: {version}"
        )
    return FakeFile(f"{distribution}-{version}-{tags}.whl", body.getvalue(), **claims)
