"""The mutation run in a reduced form: changed files of every foreign form are read, or refused in one line."""

from __future__ import annotations

import importlib
import random
import sys
import warnings
from pathlib import Path

import pytest

from omnivec.errors import OmnivecError

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
NAMES = ("machine", "fuzz", "fuzz_seeds", "fuzz_worker")


@pytest.fixture(scope="module")
def fuzz():
    sys.path.insert(0, str(BENCHMARKS))
    yield {name: importlib.import_module(name) for name in NAMES}
    sys.path.remove(str(BENCHMARKS))
    for name in NAMES:
        del sys.modules[name]


def readers():
    sys.path.insert(0, str(BENCHMARKS))
    from fuzz_seeds import SEEDS

    sys.path.remove(str(BENCHMARKS))
    slow = ("load", "catalogue", "gensim")  # as long for one as others take for a hundred
    return [name for name, (reader, _) in SEEDS.items() if reader not in slow]


@pytest.mark.parametrize("name", readers())
def test_changed_files_are_read_or_refused_in_one_line(fuzz, tmp_path, name):
    reader, make = fuzz["fuzz_seeds"].SEEDS[name]
    sound, scratch = tmp_path / "sound", tmp_path / "scratch"
    scratch.mkdir()
    make(sound)
    read = fuzz["fuzz_worker"].READERS[reader]
    read(sound)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's, of members by one name
        for _, place in fuzz["fuzz"].mutations(name, sound, scratch, 1, range(25)):
            try:
                read(place)
            except OmnivecError as error:
                assert "\n" not in str(error)


def test_a_mutation_is_drawn_from_its_seed_reader_and_number_alone(fuzz, tmp_path):
    sound = tmp_path / "sound"
    fuzz["fuzz_seeds"].SEEDS["npz"][1](sound)
    found = []
    for numbers in (range(6), range(3, 6)):
        scratch = tmp_path / f"scratch{numbers.start}"
        scratch.mkdir()
        made = fuzz["fuzz"].mutations("npz", sound, scratch, 7, numbers)
        found.append({number: place.read_bytes() for number, place in made})
    assert found[1].items() <= found[0].items() and len(set(found[0].values())) > 3


def test_a_crash_and_a_hang_are_told_from_a_refusal(fuzz, tmp_path, monkeypatch):
    def failing(path):
        raise {"a": OmnivecError("one line"), "b": OmnivecError("two\nlines"), "c": KeyError("x")}[path.name]

    worker = fuzz["fuzz_worker"]
    monkeypatch.setitem(worker.READERS, "failing", failing)
    outcomes = [worker.answer("failing", Path(name))["outcome"] for name in "abc"]
    assert outcomes == ["refused", "crashed", "crashed"]


def test_every_change_makes_bytes_of_bytes(fuzz):
    changes = (*fuzz["fuzz"].BYTES, fuzz["fuzz"].valued, fuzz["fuzz"].zipped)
    for change in changes:
        for data in (b"a", b'{"a": [1, 2]}', b"2 3\nking 1 2 3\n"):
            assert isinstance(change(data, random.Random(3)), bytes)
