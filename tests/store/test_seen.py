"""Keys that were met before, with the first value and place."""

from __future__ import annotations

import sys

import pytest

from omnivec.errors import OmnivecError
from omnivec.store.seen import Seen


def test_the_first_value_and_place_of_a_key_stay() -> None:
    with Seen() as seen:
        assert seen.first(b"a", b"1", "x:1") is None
        assert seen.first(b"b", b"1", "x:2") is None
        assert seen.first(b"a", b"2", "x:3") == (b"1", "x:1")
        assert seen.first(b"a", b"1", "x:4") == (b"1", "x:1")


def test_many_keys_take_no_memory_of_the_process() -> None:
    resource = pytest.importorskip("resource")
    if sys.platform != "linux":
        pytest.skip("ru_maxrss is in other units")
    with Seen() as seen:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for i in range(200_000):
            assert seen.first(i.to_bytes(16, "big"), b"x" * 16, f"a file of rows.csv:{i}") is None
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 8 * 1024, f"{grown:,} KiB for 200,000 keys"


def test_a_file_that_cannot_be_used_is_one_line() -> None:
    with Seen() as seen:
        pass
    with pytest.raises(OmnivecError, match="the temporary file of the rows read so far cannot be used"):
        seen.first(b"a", b"1", "x:1")
