r"""Matches names and paths with patterns of `.gitignore`, with the rules of git's wildmatch.c, in linear time.

Git tries every end of each `*`, and so does a regular expression; both may take extremely long for `*a*a*a*a*b`. Here,
the places in the pattern that the text so far may have reached are one integer with a bit for each place, and each byte
of the text advances all of them at once (Baeza-Yates and Gonnet 1992). For `a*c`, the steps are "a", "*", "c":

    text   a      b      b      c
    001 -> 110 -> 110 -> 110 -> 1000     bit 3 is after the last step: the text matches

Passing "a" sets two bits, since "*" may match nothing and is passed too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

_SLASH, _BACKSLASH, _STAR, _QUESTION, _BRACKET = b"/\\*?["
# Sets of bytes are integers, a bit for each byte.
_ALL = (1 << 256) - 2
_WITHIN = _ALL & ~(1 << _SLASH)
_LONGEST = 1 << 16  # bytes; no path is longer


def _of(keep: Callable[[str], bool]) -> int:
    return sum(1 << code for code in range(1, 128) if keep(chr(code)))


_PRINTED = _of(lambda char: "!" <= char <= "~")
_CLASSES = {
    b"alnum": _of(str.isalnum),
    b"alpha": _of(str.isalpha),
    b"blank": _of(" \t".__contains__),
    b"cntrl": _of(lambda char: not char.isprintable()),
    b"digit": _of(str.isdigit),
    b"graph": _PRINTED,
    b"lower": _of(str.islower),
    b"print": _PRINTED | 1 << 32,
    b"punct": _PRINTED & ~_of(str.isalnum),
    b"space": _of(" \t\n\v\f\r".__contains__),
    b"upper": _of(str.isupper),
    b"xdigit": _of("0123456789abcdefABCDEF".__contains__),
}


@dataclass(frozen=True)
class _Step:
    """A step of a pattern: it matches one byte of a set or, if `loops`, any number of them, including none.

    With `jump`, the next step may be skipped together with it: `**/` also matches no folder.
    """

    bytes: int
    loops: bool = False
    jump: bool = False


class Wildcards:
    """A pattern of bytes.

    Args:
        pattern: with `*`, `?`, `[...]` and backslashes.
        paths: whether it is matched with paths: `*` and `?` then do not match slashes, and `**` between slashes does.
    """

    def __init__(self, pattern: bytes, paths: bool) -> None:
        self._pattern, self._paths = pattern, paths

    def matches(self, text: bytes) -> bool:
        """Whether the whole text matches the pattern."""
        if self._steps is None or len(text) < self._least:
            return False
        moves, loops, start = self._program
        state = start
        for byte in text:
            passed = state & moves.get(byte, 0)
            state = self._reached((passed & ~loops) << 1, passed & loops)
            if not state:
                return False
        return bool(state >> len(self._steps) & 1)

    @cached_property
    def _steps(self) -> list[_Step] | None:
        """The steps of the pattern; None if nothing can match, for example because a bracket is not closed."""
        return _parse(self._pattern, self._paths)

    @cached_property
    def _least(self) -> int:
        """Length of the shortest text that can match, in bytes."""
        steps = self._steps or []
        return sum(not step.loops for step in steps) - sum(step.jump for step in steps)

    @cached_property
    def _skips(self) -> tuple[int, int]:
        """Bits of the steps that may be skipped, and of those that may be skipped together with the next."""
        steps = self._steps or []
        return _bits([i for i, step in enumerate(steps) if step.loops]), _bits(
            [i for i, step in enumerate(steps) if step.jump]
        )

    @cached_property
    def _program(self) -> tuple[dict[int, int], int, int]:
        """Maps each byte to the bits of the steps that match it; the bits of the steps that loop; the initial state."""
        places: dict[int, list[int]] = {}
        for i, step in enumerate(self._steps or []):
            for byte in range(256):
                if step.bytes >> byte & 1:
                    places.setdefault(byte, []).append(i)
        return {byte: _bits(of) for byte, of in places.items()}, self._skips[0], self._reached(1, 0)

    def _reached(self, fresh: int, stayed: int) -> int:
        """Adds the places that are reached by skipping steps.

        Args:
            fresh: places that were just reached, from which `**/` may be skipped.
            stayed: steps that loop and matched the last byte; they are never adjacent, so one pass is enough.
        """
        loops, jumps = self._skips
        state = fresh | (fresh & jumps) << 2 | stayed
        return state | (state & loops) << 1


def _bits(places: list[int]) -> int:
    held = bytearray(max(places, default=0) // 8 + 1)
    for place in places:
        held[place // 8] |= 1 << place % 8
    return int.from_bytes(held, "little")


def _parse(pattern: bytes, paths: bool) -> list[_Step] | None:
    steps: list[_Step] = []
    one = _WITHIN if paths else _ALL
    i, count = 0, len(pattern)
    while i < count:
        byte = pattern[i]
        if len(steps) > 2 * _LONGEST:
            return None
        if byte == _STAR:
            begin = i
            while i < count and pattern[i] == _STAR:
                i += 1
            step = _star(pattern, begin, i, paths)
            if step.jump and len(steps) > 1 and steps[-2].jump:
                i += 1  # "**/**/" is "**/"
            else:
                steps.append(step)
            continue
        if byte == _BRACKET:
            bracket = _bracket(pattern, i + 1)
            if bracket is None:
                return None
            held, i = bracket
            steps.append(_Step(held & one))
            continue
        if byte == _BACKSLASH:
            i += 1
            if i == count:
                return None
        steps.append(_Step(one if byte == _QUESTION else 1 << pattern[i]))
        i += 1
    return steps


def _star(pattern: bytes, begin: int, end: int, paths: bool) -> _Step:
    """Returns the step for the stars from `begin` to `end`."""
    if not paths:
        return _Step(_ALL, loops=True)
    opens = begin == 0 or pattern[begin - 1] == _SLASH
    closes = end == len(pattern) or pattern[end] == _SLASH or pattern[end : end + 2] == b"\\/"
    if end - begin == 1 or not (opens and closes):
        return _Step(_WITHIN, loops=True)
    return _Step(_ALL, loops=True, jump=pattern[end : end + 1] == b"/")


def _bracket(pattern: bytes, i: int) -> tuple[int, int] | None:
    """Parses a set whose "[" is before `i`; returns its bytes and its end, or None if it is not closed."""
    negated = pattern[i : i + 1] in (b"!", b"^")
    i += negated
    held, previous, begin = 0, 0, i
    while i < len(pattern) and (pattern[i : i + 1] != b"]" or i == begin):
        byte = pattern[i]
        if byte == _BRACKET and pattern[i + 1 : i + 2] == b":":
            end = pattern.find(b"]", i + 2)
            if end < 0:
                return None
            if end - i - 3 >= 0 and pattern[end - 1 : end] == b":":
                name = pattern[i + 2 : end - 1]
                if name not in _CLASSES:
                    return None
                held |= _CLASSES[name]
                previous, i = 0, end + 1
                continue
        is_range = byte == 0x2D and previous and pattern[i + 1 : i + 2] not in (b"", b"]")
        i += bool(is_range)
        if pattern[i : i + 1] == b"\\":
            i += 1
        if i >= len(pattern):
            return None
        if is_range:
            held |= (1 << pattern[i] + 1) - 1 & ~((1 << previous) - 1)
            previous = 0
        else:
            held |= 1 << pattern[i]
            previous = pattern[i]
        i += 1
    if i >= len(pattern):
        return None
    return (_ALL & ~held if negated else held), i + 1
