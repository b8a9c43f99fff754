"""Records read from JSON by their annotations: what passes, what is said of what does not."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnivec.errors import DownloadError, ModelError, UnsupportedModel
from omnivec.validation import typed
from omnivec.validation.json_files import read_json
from omnivec.validation.typed import Among, Divides, Filled, Key, Length, Rate, Size


@dataclass(frozen=True)
class Inner:
    eps: Rate = 0.5


@dataclass(frozen=True)
class Outer:
    width: Size
    heads: Annotated[Size, Divides("width")] = 1
    name: Annotated[str, Among(("a", "b"))] = "a"
    pair: tuple[int, int] = (1, 2)
    each: Annotated[tuple[str, ...], Filled()] = ("x",)
    kinds: Annotated[tuple[str, ...], Length("heads")] = ("x",)
    flag: bool = False
    either: int | tuple[int, int] | None = None
    mode: Literal["on", "off"] = "on"
    table: Mapping[str, Inner] | None = None
    inner: Inner | None = None
    free: Any = None
    spelt: Annotated[str, Key("as-published")] = ""


def test_a_record_holds_what_the_file_says_and_passes_over_the_rest():
    said = {
        "width": 8,
        "heads": 2,
        "kinds": ["x", "y"],
        "inner": {"eps": 1, "more": [1]},
        "unknown": math.nan,
    }
    said |= {
        "table": {"k": {"eps": 0.25}},
        "either": [3, 4],
        "flag": None,
        "as-published": "s",
        "free": [None],
    }
    assert typed.read(Outer, said, "f") == Outer(
        8,
        2,
        kinds=("x", "y"),
        either=(3, 4),
        table={"k": Inner(0.25)},
        inner=Inner(1.0),
        free=[None],
        spelt="s",
    )


WRONG = [
    ({}, "f.json lacks width: a whole number from 1 to 2,147,483,647 is expected"),
    ({"width": None}, "f.json: width is None, where a whole number"),
    ({"width": True}, "f.json: width is True, where a whole number"),
    ({"width": "8"}, "f.json: width is '8', where"),
    ({"width": 8.0}, "f.json: width is 8.0, where"),
    ({"width": 0}, "f.json: width is 0, where"),
    ({"width": 1 << 40}, "f.json: width is 1099511627776, where"),
    ({"width": [8]}, "f.json: width is [8], where"),
    ({"heads": 3}, "f.json: heads is 3, where a divisor of width (8) is expected"),
    (
        {"kinds": ["x", "y"]},
        "f.json: kinds is ('x', 'y'), where a list as long as heads says (1) is expected",
    ),
    ({"pair": [1]}, "f.json: pair is [1], where a list of 2, each a whole number is expected"),
    ({"pair": [1, "2"]}, "f.json: pair[1] is '2', where a whole number is expected"),
    ({"each": []}, "f.json: each is (), where at least one value is expected"),
    ({"flag": 1}, "f.json: flag is 1, where true or false is expected"),
    (
        {"either": "3"},
        "f.json: either is '3', where a whole number or a list of 2, each a whole number or null",
    ),
    ({"mode": "over"}, "f.json: mode is 'over', where one of on, off is expected"),
    ({"inner": []}, "f.json: inner is [], where a table"),
    ({"inner": {"eps": math.inf}}, "f.json: inner.eps is inf, where a finite number is expected"),
    ({"inner": {"eps": math.nan}}, "f.json: inner.eps is nan, where a finite number is expected"),
    (
        {"table": {"k": {"eps": -1}}},
        "f.json: table.k.eps is -1.0, where a number from 0.0 to 1.0 is expected",
    ),
]


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[json.dumps(change) for change, _ in WRONG])
def test_a_value_that_cannot_be_is_named_with_its_key_and_what_is_expected(change, message):
    said = {"width": 8, **change} if change else {}
    with pytest.raises(ModelError) as caught:
        typed.read(Outer, said, "f.json")
    assert str(caught.value).startswith(message)


def test_a_value_that_is_none_of_its_choices_is_a_variant_that_is_not_covered():
    with pytest.raises(UnsupportedModel, match=r"f: name 'c' is none of a, b"):
        typed.read(Outer, {"width": 8, "name": "c"}, "f")
    with pytest.raises(DownloadError, match=r"f: name 'c' is none of a, b"):
        typed.read(Outer, {"width": 8, "name": "c"}, "f", DownloadError)
    with pytest.raises(ModelError, match=r"^f: it holds a list, where a table is expected"):
        typed.read(Outer, [], "f")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(key=st.sampled_from([*Outer.__dataclass_fields__, "as-published"]), value=JSON)
def test_any_json_at_any_key_is_a_record_or_one_line_with_file_and_key(key, value):
    try:
        found = typed.read(Outer, {"width": 8, key: value}, "f.json")
    except ModelError as error:
        assert f"f.json: {key}" in str(error) or f"f.json lacks {key}" in str(error)
        assert len(str(error)) < 400 and "\n" not in str(error)
    else:
        assert typed.read(Outer, vars(found) | {"as-published": found.spelt}, "f.json") == found


def test_keys_are_checked_alone_and_by_other_spellings_too():
    known = typed.checked([Inner, Outer], {"w": 8, "eps": None, "other": 1}, "f", {"w": "width"})
    assert known == {"w": 8, "eps": None}
    with pytest.raises(ModelError, match="f: w is -8, where a whole number"):
        typed.checked([Outer], {"w": -8}, "f", {"w": "width"})


UNREADABLE = {
    "empty": b"",
    "utf-16": '{"a": 1}'.encode("utf-16"),
    "not utf-8": b'{"a": "\xff"}',
    "nested": b"[" * 100_000,
    "cut off": b'{"a": ',
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_that_is_no_json_is_named(tmp_path, name):
    path = tmp_path / "config.json"
    path.write_bytes(UNREADABLE[name])
    with pytest.raises(ModelError, match=r"config\.json is not valid JSON"):
        read_json(path)


def test_what_lies_in_a_files_place_is_never_waited_for(tmp_path):
    path = tmp_path / "config.json"
    os.mkfifo(path)
    with pytest.raises(ModelError, match="is a pipe or a device"):
        read_json(path)
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(ModelError, match=r"folder\.json cannot be read: it is a folder, not a file"):
        read_json(tmp_path / "folder.json", default={})


def test_a_number_of_a_million_digits_is_infinite_and_a_mark_of_the_encoding_nothing(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('\ufeff{"a": -' + "9" * 1_000_000 + ', "b": 12}')
    assert read_json(path) == {"a": -math.inf, "b": 12}
