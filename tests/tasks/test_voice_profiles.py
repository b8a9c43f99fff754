"""The file of voices: what is written is read, damage is named, writers wait for each other, kills lose nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from omnivec.errors import IdentityError, OmnivecError, UsageError, WeightsError
from omnivec.tasks.voice_profiles import (
    CohortVectors,
    Profiles,
    Voice,
    changing,
    check_identity,
    read_profiles,
    write_profiles,
)

IDENTITY = {
    "model": {"family": "toy", "dim": 4, "weights": {"float32": "ab"}},
    "speech": {"detector": "loud"},
}


def voice(name="anna", count=2, seed=0):
    rows = np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Voice(
        name, rows, tuple(2.5 + i for i in range(count)), tuple(f"{name}{i}.wav" for i in range(count))
    )


def profiles(*names, cohort=False):
    made = Profiles(IDENTITY, "toy", {name: voice(name, 2, i) for i, name in enumerate(names)})
    if not cohort:
        return made
    vectors = np.random.default_rng(1).normal(size=(3, 5, 4)).astype(np.float32)
    others = CohortVectors((1.0, 2.0, float("inf")), vectors, (4.0,) * 5, tuple("aabcd"))
    return Profiles(IDENTITY, "toy", made.voices, others)


def test_what_is_written_is_read(tmp_path):
    path, written = tmp_path / "voices.safetensors", profiles("anna", "Ünal 王", cohort=True)
    write_profiles(path, written)
    found = read_profiles(path)
    assert found is not None
    assert (found.identity, found.model, list(found.voices)) == (IDENTITY, "toy", ["anna", "Ünal 王"])
    for name, one in written.voices.items():
        assert np.array_equal(found.voices[name].vectors, one.vectors)
        assert (found.voices[name].seconds, found.voices[name].sources) == (one.seconds, one.sources)
    assert found.cohort is not None
    assert written.cohort is not None
    assert np.array_equal(found.cohort.vectors, written.cohort.vectors)
    assert found.cohort.lengths == (1.0, 2.0, float("inf"))
    assert (found.cohort.speakers, found.cohort.count) == (("a", "a", "b", "c", "d"), 4)
    assert repr(found) == "<Profiles: 2 voices by 'toy'>"


def test_it_is_an_ordinary_safetensors_file(tmp_path):
    path = tmp_path / "voices.safetensors"
    write_profiles(path, profiles("anna", "ben", cohort=True))
    assert {name: array.shape for name, array in load_file(path).items()} == {
        "voice.0": (2, 4),
        "voice.1": (2, 4),
        "cohort": (3, 5, 4),
    }


def test_a_file_without_voices_can_be_written(tmp_path):
    path = tmp_path / "voices.safetensors"
    write_profiles(path, profiles())
    found = read_profiles(path)
    assert found is not None
    assert not found.voices
    assert read_profiles(tmp_path / "missing") is None


def damaged(path, **changes):
    """Writes a file whose header has been changed."""
    write_profiles(path, profiles("anna", cohort=True))
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        record = json.loads(file.metadata()["omnivec"])
    arrays = load_file(path)
    save_file(arrays, path, {"omnivec": json.dumps({**record, **changes})})


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"format": "something"}, "is not a file of voices"),
        ({"version": 2}, "has version 2 of the format, and this omnivec reads version 1"),
        ({"voices": [{"name": "anna", "seconds": [1.0], "sources": ["a"]}]}, "is damaged: .* 2 tensors"),
        ({"voices": [{"name": "anna"}]}, "is damaged"),
        ({"voices": [{}] * 3}, "is damaged"),
        ({"cohort": {"lengths": [1.0], "seconds": [1.0] * 5, "speakers": ["a"] * 5}}, "is damaged"),
        ({"cohort": 3}, "is damaged"),
        ({"identity": {}}, "is damaged"),
        ({"identity": {"model": {"weights": "ab"}, "speech": None}}, "is damaged"),
        ({"identity": {"model": {"dim": 5}, "speech": None}}, "is damaged"),
        ({"identity": {**IDENTITY, "speech": "some"}}, "is damaged"),
        ({"voices": [{"name": "anna", "seconds": [float("nan"), 1.0], "sources": ["a", "b"]}]}, "is damaged"),
        ({"voices": [{"name": "anna", "seconds": [-1.0, 1.0], "sources": ["a", "b"]}]}, "is damaged"),
    ],
)
def test_damage_is_named(tmp_path, changes, why):
    path = tmp_path / "voices.safetensors"
    damaged(path, **changes)
    with pytest.raises(OmnivecError, match=why):
        read_profiles(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
@pytest.mark.parametrize("part", ["voice", "cohort"])
def test_vectors_without_a_direction_are_damage(tmp_path, part, value):
    path, content = tmp_path / "voices.safetensors", profiles("anna", "ben", cohort=True)
    assert content.cohort is not None
    broken = content.voices["ben"].vectors if part == "voice" else content.cohort.vectors[1]
    broken[1] = value
    write_profiles(path, content)
    with pytest.raises(OmnivecError, match="is damaged"):
        read_profiles(path)


def test_an_identity_without_weights_is_another_one(tmp_path):
    with pytest.raises(IdentityError, match="weights, dim, family differ"):
        check_identity(tmp_path, {"model": {}, "speech": None}, {**IDENTITY, "speech": None})


def test_vectors_of_two_sizes_are_damage(tmp_path):
    path, content = tmp_path / "voices.safetensors", profiles("anna", "ben", cohort=True)
    ben = replace(content.voices["ben"], vectors=content.voices["ben"].vectors[:, :3])
    write_profiles(path, replace(content, voices={**content.voices, "ben": ben}))
    with pytest.raises(OmnivecError, match="is damaged"):
        read_profiles(path)


def test_a_name_that_is_there_twice_is_damage(tmp_path):
    path = tmp_path / "voices.safetensors"
    anna = voice("anna")
    write_profiles(
        path, replace(profiles(), voices={"anna": anna, "ben": replace(anna, vectors=-anna.vectors)})
    )
    with pytest.raises(OmnivecError, match="is damaged"):
        read_profiles(path)


def test_a_recording_given_twice_at_once_counts_once():
    one, other = voice("anna", 1, 3), voice("anna", 1, 4)
    rows = np.concatenate([one.vectors, other.vectors, one.vectors])
    given = Voice("anna", rows, (1.0, 2.0, 3.0), ("a", "b", "a again"))
    first = profiles().with_voice(given)
    assert first.voices["anna"].sources == ("b", "a again")
    assert first.voices["anna"].seconds == (2.0, 3.0)
    assert first.with_voice(given).voices["anna"].sources == ("b", "a again")


def test_other_files_are_no_voices(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"x": np.zeros(3, np.float32)}, path)
    with pytest.raises(OmnivecError, match="is not a file of voices"):
        read_profiles(path)
    path.write_bytes(b"RIFF....")
    with pytest.raises(WeightsError, match="truncated, or not a safetensors file"):
        read_profiles(path)
    whole = tmp_path / "voices.safetensors"
    write_profiles(whole, profiles("anna"))
    for size in (0, 7, 100, whole.stat().st_size - 1):
        (tmp_path / "cut").write_bytes(whole.read_bytes()[:size])
        with pytest.raises(OmnivecError):
            read_profiles(tmp_path / "cut")


def test_recordings_are_joined_and_voices_removed():
    made = profiles("anna", "ben")
    fresh = voice("anna", 3, seed=0)  # its first recording is the one that anna has
    again = Voice(
        "anna", np.concatenate([made.voices["anna"].vectors[:1], fresh.vectors[2:]]), (1.0, 9.0), ("x", "y")
    )
    joined = made.with_voice(again).voices["anna"]
    assert joined.sources == ("anna1.wav", "x", "y")
    assert joined.seconds == (3.5, 1.0, 9.0)
    assert list(made.without("anna").voices) == ["ben"]
    with pytest.raises(UsageError, match="no voice 'cleo' is enrolled; enrolled: anna, ben"):
        made.without("cleo")


PROGRAM = """
    import sys
    from pathlib import Path
    import numpy as np
    from omnivec.tasks.voice_profiles import Profiles, Voice, changing, read_profiles, write_profiles
    path, who = Path(sys.argv[1]), sys.argv[2]
    print("ready", flush=True)
    for i in range(int(sys.argv[3])):
        with changing(path):
            stored = read_profiles(path) or Profiles({"model": {}, "speech": None}, "toy")
            row = np.ones((1, 2000), np.float32) * (i + 1)
            write_profiles(path, stored.with_voice(Voice(f"{who}{i}", row, (1.0,), ("a.wav",))))
        print(i, flush=True)
"""


def start(path, who, times):
    program = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(path), who, str(times)]
    return subprocess.Popen(program, stdout=subprocess.PIPE, text=True)


def test_two_writers_lose_nothing(tmp_path):
    path = tmp_path / "voices.safetensors"
    writers = [start(path, who, 15) for who in "ab"]
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    found = read_profiles(path)
    assert found is not None
    assert set(found.voices) == {f"{who}{i}" for who in "ab" for i in range(15)}


@pytest.mark.skipif(os.name != "posix", reason="links of POSIX")
def test_writers_by_two_names_lose_nothing(tmp_path):
    path, link = tmp_path / "voices.safetensors", tmp_path / "link.safetensors"
    write_profiles(path, Profiles({"model": {}, "speech": None}, "toy"))
    link.symlink_to(path)
    writers = [start(place, who, 15) for place, who in ((path, "a"), (link, "b"))]
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    found = read_profiles(path)
    assert found is not None
    assert len(found.voices) == 30
    assert link.is_symlink()


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("delay", [0.01, 0.05, 0.1])
def test_a_kill_loses_nothing_that_was_reported(tmp_path, delay):
    path = tmp_path / "voices.safetensors"
    writer = start(path, "a", 100_000)
    assert writer.stdout is not None
    for _ in range(3):
        writer.stdout.readline()
    time.sleep(delay)
    writer.send_signal(signal.SIGKILL)
    reported = [int(line) for line in writer.communicate()[0].split() if line.isdigit()]
    found = read_profiles(path)
    assert found is not None
    assert {f"a{i}" for i in [0, 1, *reported]} <= set(found.voices)
    time.sleep(0.15)  # what is younger may belong to a living writer
    # The next writer is not blocked, and removes what the killed one left.
    with changing(path):
        write_profiles(path, found.without("a0"))
    assert sorted(each.name for each in Path(tmp_path).iterdir()) == [".voices.safetensors.lock", path.name]


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(OmnivecError, match="cannot be locked"), changing(tmp_path / "missing" / "voices"):
        pass
