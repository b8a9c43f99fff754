"""What kernels do, stated in NumPy: draws in their order, and one hidden vector or more against their targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivec.tables.kernels import draws, windows

WORDS, DIM, NEGATIVE = 9, 20, 3
WIDTH = windows.width_of(DIM)
COUNTS = np.arange(WORDS, 0, -1).astype(np.int64) * 10


def table(random: np.random.Generator, rows: int, dim: int = DIM) -> NDArray[np.float32]:
    found = windows.zeros(rows, dim)
    found[:, :dim] = random.standard_normal((rows, dim)) * 0.4
    return found


def settings(
    window: int = 2, skipgram: bool = True, width: int = WIDTH, negative: int = NEGATIVE
) -> windows.WindowSettings:
    return windows.WindowSettings(skipgram, negative, window, True, True, width)


def advanced(state: Any) -> Any:
    return draws.advance(np.uint64(state))


def drawn_windows(
    sentence: Sequence[int], chosen: windows.WindowSettings, alias: Any, state: Any, drawn_reach: bool = True
) -> Iterator[tuple[int, int, list[int]]]:
    """(centre's place, reach, targets) in order, drawn as the kernels draw them; every word is kept."""
    targets = []
    for centre in sentence:
        found, state = _targets(centre, chosen, alias, state)
        targets.append(found)
    for i in range(len(sentence)):
        reach = chosen.window
        if drawn_reach:
            state = advanced(state)
            reach = 1 + int(draws.below(np.uint64(state), chosen.window))
        yield i, reach, targets[i]


def begun(seed: int, first: int, words: int) -> Any:
    """The state behind the draws that thin a sentence."""
    state = draws.first_state(np.uint64(seed), first)
    for _ in range(words):
        state = advanced(state)
    return state


def _targets(centre: int, chosen: windows.WindowSettings, alias: Any, state: Any) -> tuple[list[int], Any]:
    found = [centre]
    for _ in range(chosen.negative):
        state = advanced(state)
        other = int(draws.draw(np.uint64(state), alias))
        if other != centre:
            found.append(other)
    return found, state


def step(hidden: NDArray[Any], outputs: NDArray[Any], targets: Sequence[int], rate: float) -> NDArray[Any]:
    """Changes the outputs; returns the change of each hidden vector (n, dim). The first target is the true one."""
    rows = outputs[targets].copy()
    labels = np.eye(len(targets))[0]
    errors = rate * (labels - 1 / (1 + np.exp(-hidden @ rows.T)))
    np.add.at(outputs, targets, errors.T @ hidden)
    return errors @ rows
