from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnivec.hub.versions import parse

packaging_version = pytest.importorskip("packaging.version")  # the reference implementation of PEP 440

number = st.integers(0, 12).map(str)
version = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["", "", "1!", "v"]),
        st.lists(number, min_size=1, max_size=4).map(".".join),
        st.sampled_from(["", "", "a1", "b2", "rc1", ".alpha.3", "-preview2", "c4", "rc"]),
        st.sampled_from(["", "", ".post1", "-2", ".rev3", "post", "-r4"]),
        st.sampled_from(["", "", ".dev0", ".dev4", "dev", "-DEV2"]),
    ),
)


@given(version, version)
def test_versions_are_ordered_as_pep_440_says(first, second):
    ours, theirs = (parse(first), parse(second)), [packaging_version.Version(v) for v in (first, second)]
    assert (ours[0].order < ours[1].order) == (theirs[0] < theirs[1])
    assert (ours[0].order == ours[1].order) == (theirs[0] == theirs[1])
    assert ours[0].prerelease == theirs[0].is_prerelease


@pytest.mark.parametrize("text", ["", "..", "1..2", "one", "1.0/..", "1.0-", "1.x", "1.0+", "==1.0"])
def test_what_is_no_version(text):
    assert parse(text) is None
