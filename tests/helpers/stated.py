"""What kernels do, stated in NumPy: draws in their order, and one hidden vector or more against their targets."""

from __future__ import annotations

import numpy as np

from omnivec.tables.kernels import draws, windows

WORDS, DIM, NEGATIVE = 9, 20, 3
WIDTH = windows.width_of(DIM)
COUNTS = np.arange(WORDS, 0, -1).astype(np.int64) * 10


def table(random, rows, dim=DIM):
    found = windows.zeros(rows, dim)
    found[:, :dim] = random.standard_normal((rows, dim)) * 0.4
    return found


def settings(window=2, skipgram=True, width=WIDTH, negative=NEGATIVE):
    return windows.WindowSettings(skipgram, negative, window, True, True, width)


def advanced(state):
    return draws.advance(np.uint64(state))


def drawn_windows(sentence, chosen, alias, state, drawn_reach=True):
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


def begun(seed, first, words):
    """The state behind the draws that thin a sentence."""
    state = draws.first_state(np.uint64(seed), first)
    for _ in range(words):
        state = advanced(state)
    return state


def _targets(centre, chosen, alias, state):
    found = [centre]
    for _ in range(chosen.negative):
        state = advanced(state)
        other = int(draws.draw(np.uint64(state), alias))
        if other != centre:
            found.append(other)
    return found, state


def step(hidden, outputs, targets, rate):
    """Changes the outputs; returns the change of each hidden vector (n, dim). The first target is the true one."""
    rows = outputs[targets].copy()
    labels = np.eye(len(targets))[0]
    errors = rate * (labels - 1 / (1 + np.exp(-hidden @ rows.T)))
    np.add.at(outputs, targets, errors.T @ hidden)
    return errors @ rows
