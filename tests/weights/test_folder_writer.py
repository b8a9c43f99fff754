"""Saving a model into a folder: nothing of the user's is lost, and a kill leaves the old model or the new one."""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import omnivec
import patience
from omnivec.errors import ModelError, OmnivecError, UsageError, WeightsError
from omnivec.tables.io import read_table, write_table
from omnivec.tables.record import Table
from omnivec.weights.folder_writer import LISTED, check_folder, model_folder, recover
from patience import PATIENCE

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX signals, links and rights")


def old() -> Table:
    """A table of documents: it has a file that the new one has not."""
    vectors = np.arange(8, dtype=np.float32).reshape(2, 4)
    return Table(["d1", "d2"], vectors, words=Table(["a", "b"], vectors))


def new() -> Table:
    return Table(["x", "y", "z"], np.ones((3, 4), np.float32))


def save(folder: Path, table: Table) -> None:
    write_table(folder, table, "omnivec")


def keys(folder: Path) -> list[str]:
    recover(folder)
    return list(read_table(folder).keys)


def tree(folder: Path) -> dict[str, bytes | str]:
    """Each file's bytes, each link's target, each folder."""
    found: dict[str, bytes | str] = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        else:
            found[name] = path.read_bytes() if path.is_file() else "folder"
    return found


def test_what_lies_beside_a_model_stays_and_its_own_files_go(tmp_path: Path) -> None:
    save(tmp_path / "m", old())
    foreign = {"data.csv": b"a,b", "thesis/one.txt": b"1", "thesis/deep/two.txt": b"2", "left/mine": b"3"}
    for name, content in foreign.items():
        (tmp_path / "m" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "m" / name).write_bytes(content)
    save(tmp_path / "m", new())
    after = tree(tmp_path / "m")
    assert foreign.items() <= after.items()
    assert "words.json" not in after  # of the table of documents: the list of its files names it
    assert keys(tmp_path / "m") == ["x", "y", "z"]
    assert set(json.loads(after[LISTED])["files"]) == {
        "README.md",
        "config.json",
        "keys.json",
        "model.safetensors",
    }
    assert not [name for name in after if ".omnivec" in name]


@pytest.mark.parametrize(
    "content",
    [
        {"config.json": b"{}", "data.csv": b"1"},
        {"config.json": b'{"model_type": "bert"}', "data.csv": b"1", "thesis/x": b"2"},
        {"modules.json": b'[{"type": "x.Transformer"}]', "notes.txt": b"1"},
        {"model.safetensors": b"weights of mine"},
        {"README.md": b"# my project", "src/a.py": b"1"},
        {"checkpoint-1/model.safetensors": b"x"},
        {"config.json": b'{"model_type": "lstm", "lr": 1}', "best.pt": b"x", "data/train.bin": b"x"},
        {"config.json": b'{"model_type": "bert"}', "embeddings.npz": b"x", "labels.json": b"[]"},
        {"modules.json": b'[{"type": "npm"}]', "b.bin": b"x"},
        {"config.json/file": b"a folder of that name"},
    ],
)
def test_a_folder_that_holds_no_model_is_refused_by_what_it_holds(
    tmp_path: Path, content: dict[str, bytes]
) -> None:
    for name, data in content.items():
        (tmp_path / "m" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "m" / name).write_bytes(data)
    before = tree(tmp_path)
    for attempt in (lambda: check_folder(tmp_path / "m"), lambda: save(tmp_path / "m", new())):
        with pytest.raises(WeightsError, match=r"not empty and holds no model \(.*choose another folder"):
            attempt()
    assert tree(tmp_path) == before


def published(folder: Path, **more: bytes) -> None:
    """A model that another program wrote, and files beside it."""
    folder.mkdir()
    for name, data in {"config.json": b'{"model_type": "bert"}', "model.safetensors": b"x", **more}.items():
        (folder / name).write_bytes(data)


def test_a_published_model_is_replaced_by_the_same_names_only(tmp_path: Path) -> None:
    beside = {"pytorch_model.bin": b"torch", "tf_model.h5": b"tf", "train.log": b"log"}
    published(tmp_path / "m", **beside, **{"README.md": b"---\nlicense: mit\n---\nscores of its own"})
    save(tmp_path / "m", new())
    after = tree(tmp_path / "m")
    assert beside.items() <= after.items() and keys(tmp_path / "m") == ["x", "y", "z"]
    assert b"scores of its own" not in after["README.md"]


def test_a_readme_that_is_no_card_is_left(tmp_path: Path) -> None:
    published(tmp_path / "m", **{"README.md": b"---\ntitle: my thesis\n---\nlicense: of the text"})
    before = tree(tmp_path)
    with pytest.raises(WeightsError, match=r"holds README\.md, which"):
        save(tmp_path / "m", new())
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("adapter_config.json", "be read as a part"),
        ("tokenizer.json", "be read as a part"),
        ("modules.json", "be read as a part"),
        ("keys.json", "would replace"),  # a BERT has no keys: these are the user's
        ("README.md", "would replace"),
    ],
)
def test_what_is_not_the_models_is_named_and_left(tmp_path: Path, name: str, why: str) -> None:
    published(tmp_path / "m", **{name: b"[]"})
    before = tree(tmp_path)
    with pytest.raises(WeightsError, match=f"holds {name}, which .*{why}"):
        save(tmp_path / "m", new())
    assert tree(tmp_path) == before


def test_a_file_of_ours_that_was_changed_is_the_users(tmp_path: Path) -> None:
    save(tmp_path / "m", old())
    (tmp_path / "m" / "words.json").write_text('["mine"]')
    save(tmp_path / "m", new())
    assert (tmp_path / "m" / "words.json").read_text() == '["mine"]'
    (tmp_path / "m" / "README.md").write_text("what I found out about it")
    with pytest.raises(WeightsError, match=r"README\.md"):
        save(tmp_path / "m", old())
    assert (tmp_path / "m" / "README.md").read_text() == "what I found out about it"


@posix
def test_links_are_followed_to_the_folder_and_never_replaced_in_it(tmp_path: Path) -> None:
    save(tmp_path / "real", old())
    (tmp_path / "link").symlink_to("real")
    save(tmp_path / "link", new())
    assert (tmp_path / "link").is_symlink() and keys(tmp_path / "real") == ["x", "y", "z"]
    (tmp_path / "elsewhere.json").write_bytes((tmp_path / "real" / "keys.json").read_bytes())
    (tmp_path / "real" / "keys.json").unlink()
    (tmp_path / "real" / "keys.json").symlink_to("../elsewhere.json")
    before = tree(tmp_path)
    with pytest.raises(WeightsError, match=r"keys\.json"):
        save(tmp_path / "real", old())
    assert tree(tmp_path) == before


def test_folders_that_cannot_be_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="root of the file system"):
        check_folder(Path(Path(tmp_path.anchor)))
    with pytest.raises(WeightsError, match="is a file"):
        save(tmp_path / "file", new())
    with pytest.raises(WeightsError, match=r"would lie in .*file, which is a file"):
        save(tmp_path / "file" / "a" / "b", new())
    save(tmp_path / "a" / "b" / "c", new())  # parents are made
    monkeypatch.chdir(tmp_path / "a")
    (tmp_path / "a" / "here").mkdir()
    monkeypatch.chdir(tmp_path / "a" / "here")
    save(Path(), new())
    assert keys(tmp_path / "a" / "here") == ["x", "y", "z"]
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    save(Path("~/m"), new())
    assert keys(tmp_path / "home" / "m") == ["x", "y", "z"]


def test_a_block_that_fails_leaves_everything_as_it_was(tmp_path: Path) -> None:
    save(tmp_path / "m", old())
    before = tree(tmp_path)
    for target in ("m", "new/deep"):
        with pytest.raises(KeyboardInterrupt), model_folder(tmp_path / target) as fresh:
            (fresh / "config.json").write_text("half")
            raise KeyboardInterrupt
        assert tree(tmp_path) == before


OWN = ["config.json", "README.md", "model.safetensors", "keys.json", "words.json"]
OTHERS = [
    "modules.json",
    "tokenizer.json",
    "adapter_config.json",
    "data.csv",
    ".gitignore",
    "thesis",
    "1_Pooling",
]
NAMES = st.sampled_from([*OWN, *OTHERS, "checkpoint-1", "left"])
CONTENTS = st.one_of(
    st.binary(max_size=8),
    st.sampled_from(
        [b"{}", b"[]", b'{"model_type": "bert"}', b'{"model_type": "static"}', b"---\na: b\n---\n"]
    ),
)
TREES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=3).map("/".join), CONTENTS | st.just("link"), max_size=6
)


@settings(deadline=None, max_examples=60)
@given(content=TREES, over=st.booleans())
def test_any_tree_keeps_every_foreign_file(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, bytes | str], over: bool
) -> None:
    """Either all stays and one line says why, or the model loads, and what is not named as its files stays."""
    place = tmp_path_factory.mktemp("tree") / "m"
    if over:
        save(place, old())
    place.mkdir(exist_ok=True)
    for name, data in content.items():
        path = place / name
        if os.path.lexists(path) or any(os.path.lexists(p) and not p.is_dir() for p in path.parents):
            continue  # the tree's own files stand in each other's way
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(data, bytes):
            path.write_bytes(data)
        elif os.name == "posix":
            path.symlink_to("nowhere")
    before = tree(place)
    own = {"config.json", "keys.json", "model.safetensors", "README.md", LISTED}
    try:
        save(place, new())
    except OmnivecError as error:
        assert "\n" not in str(error)
        assert tree(place) == before
        return
    after = tree(place)
    assert keys(place) == ["x", "y", "z"]
    removed = {"words.json"} if over else set()
    assert {n: v for n, v in before.items() if n not in own | removed}.items() <= after.items()
    if not over:  # what was there under those names was a model's
        assert not any(name in before for name in own) or {"config.json", "model.safetensors"} & before.keys()


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [{here!r}, {helpers!r}]
import test_folder_writer as these

place, events = Path({place!r}), 0
def kill(event, arguments):
    global events
    if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod"):
        events += 1
        if events == at:
            os.kill(os.getpid(), signal.SIGKILL)

seen, at = [], 0
while True:
    at += 1
    pid = os.fork()
    if not pid:
        sys.addaudithook(kill)
        these.save(place, these.new())
        os._exit(0)
    ended = os.waitpid(pid, 0)[1] == 0
    found = these.keys(place)
    assert found in (["d1", "d2"], ["x", "y", "z"]), (at, found)
    assert (place / "thesis.txt").read_text() == "mine"
    seen.append(found[0])
    left = [name for name in os.listdir(place) if name.startswith(".omnivec")]
    these.save(place, these.old())  # for the next round, and it clears away what a kill left
    left = [name for name in os.listdir(place) if name.startswith(".omnivec")]
    assert not left, (at, left)
    if ended:
        break
print(at, seen.count("d1"), seen.count("x"))
"""


@posix
def test_a_kill_at_every_file_system_call_leaves_the_old_model_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import subprocess

    save(tmp_path / "m", old())
    (tmp_path / "m" / "thesis.txt").write_text("mine")
    source = Path(omnivec.__file__).parent.parent
    code = "import omnivec.files as f; f._A_MOMENT = -1.0\n" + KILLED.format(
        here=str(Path(__file__).parent),
        helpers=str(Path(patience.__file__).parent),
        place=str(tmp_path / "m"),
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    kills, before, after = map(int, done.stdout.split())
    assert kills > 30 and before > 10 and after > 5


@posix
def test_a_save_that_was_committed_and_killed_is_ended_by_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omnivec.files._A_MOMENT", -1.0)
    save(tmp_path / "m", old())
    pid = os.fork()
    if not pid:
        from omnivec.weights import folder_writer

        folder_writer._follow = lambda place, stage: os.kill(os.getpid(), signal.SIGKILL)
        save(tmp_path / "m", new())
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    assert [path for path in (tmp_path / "m").iterdir() if path.name.startswith(".omnivec-save-")]
    model = omnivec.load(tmp_path / "m")
    assert isinstance(model, omnivec.KeyedEmbedder)
    assert model.keys == ["x", "y", "z"]
    assert not [path for path in (tmp_path / "m").iterdir() if path.name.startswith(".omnivec-save-")]


def test_a_folder_that_is_just_being_written_is_no_model_yet(tmp_path: Path) -> None:
    with model_folder(tmp_path / "m") as fresh:
        (fresh / "config.json").write_text("{}")
        with pytest.raises(ModelError, match="is being written now"):
            omnivec.load(tmp_path / "m")


def test_two_that_save_at_once_leave_one_whole_model(tmp_path: Path) -> None:
    def work(table: Table) -> None:
        for _ in range(5):
            save(tmp_path / "m", table)

    threads = [threading.Thread(target=work, args=(table,)) for table in (old(), new())]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = keys(tmp_path / "m")
    assert found in (["d1", "d2"], ["x", "y", "z"])
    assert (tmp_path / "m" / "words.json").exists() == (found == ["d1", "d2"])
    assert not [path for path in (tmp_path / "m").iterdir() if path.name.startswith(".omnivec-save-")]


def test_a_model_is_saved_over_the_folder_that_it_is_mapped_from(tmp_path: Path) -> None:
    save(tmp_path / "m", old())
    model = omnivec.load(tmp_path / "m")
    assert isinstance(model, omnivec.KeyedEmbedder)
    expected = model.vectors.copy()
    save(tmp_path / "m", new())
    np.testing.assert_array_equal(model.vectors, expected)
    model.save(tmp_path / "m")
    assert keys(tmp_path / "m") == ["d1", "d2"]


@posix
def test_files_have_the_rights_that_the_umask_gives(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save(tmp_path / "m", new())
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "m").iterdir()} == {0o640}
