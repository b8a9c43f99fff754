"""Versions of packages, read and ordered as PEP 440 says."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

_VERSION = re.compile(
    r"""v?(?:(?P<epoch>\d+)!)?(?P<release>\d+(?:\.\d+)*)
    (?:[-_.]?(?P<stage>alpha|a|beta|b|preview|pre|c|rc)[-_.]?(?P<stage_number>\d*))?
    (?P<post>-(?P<post_implicit>\d+)|[-_.]?(?:post|rev|r)[-_.]?(?P<post_number>\d*))?
    (?P<dev>[-_.]?dev[-_.]?(?P<dev_number>\d*))?
    (?:\+(?P<local>[a-z0-9]+(?:[-_.][a-z0-9]+)*))?""",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_LONGEST = 100  # characters
_STAGES = {"alpha": "a", "beta": "b", "c": "rc", "pre": "rc", "preview": "rc"}

Order = tuple[int, tuple[int, ...], tuple[str, int], float, float, str]


@dataclass(frozen=True)
class Version:
    """A version: as written, where it stands among others, and whether it is a prerelease."""

    text: str
    order: Order
    prerelease: bool


def parse(text: str) -> Version | None:
    """The version that `text` states; None when it states none."""
    match = _VERSION.fullmatch(text.strip()) if len(text) <= _LONGEST else None
    if match is None:
        return None
    release = [int(part) for part in match["release"].split(".")]
    while len(release) > 1 and release[-1] == 0:
        release.pop()
    post = int(match["post_implicit"] or match["post_number"] or 0) if match["post"] else -1
    dev = int(match["dev_number"] or 0) if match["dev"] else math.inf
    if match["stage"]:
        stage = match["stage"].lower()
        pre = (_STAGES.get(stage, stage), int(match["stage_number"] or 0))
    else:  # 1.0.dev1 stands before 1.0a1, and 1.0 after every 1.0rc
        pre = ("", 0) if match["dev"] and not match["post"] else ("z", 0)
    order = (int(match["epoch"] or 0), tuple(release), pre, post, dev, (match["local"] or "").lower())
    return Version(text.strip(), order, bool(match["stage"] or match["dev"]))
