"""Passes: every sentence once in each, a rate that falls, errors that come out, and Ctrl-C."""

from __future__ import annotations

import _thread
import contextlib
import threading
import time

import numpy as np
import pytest

from omnivec.errors import ModelError
from omnivec.training.passes import Schedule, run_epochs, stopped_line

STARTS = np.array([0, 0, 700, 900, 4000, 4001, 9000, 9000])


@pytest.mark.parametrize("threads", [1, 3])
def test_every_sentence_is_worked_on_once_in_each_pass(threads):
    seen, lock = [], threading.Lock()

    def work(piece):
        with lock:
            seen.append(piece)
        return 2.0 * piece.words, piece.words

    outcome = run_epochs(STARTS, Schedule(3, 0.1, 0.01, threads, seed=5), work, {})
    assert (outcome.loss, outcome.words, outcome.stopped) == (2.0, 27_000, False)
    for epoch in range(3):
        own = sorted(piece for piece in seen if piece.epoch == epoch)
        words = [i for piece in own for i in range(STARTS[piece.first], STARTS[piece.last])]
        assert words == list(range(9000))
        assert [piece.words for piece in own] == [STARTS[p.last] - STARTS[p.first] for p in own]
    assert len({piece.seed for piece in seen}) == len(seen)
    if threads == 1:
        rates = [piece.lr for piece in seen]
        assert rates[0] == 0.1 and rates == sorted(rates, reverse=True) and rates[-1] > 0.01


def test_an_error_in_a_thread_comes_out():
    def work(piece):
        raise ModelError("broken")

    with pytest.raises(ModelError, match="broken"):
        run_epochs(STARTS, Schedule(1, 0.1, 0.0, 2, 0), work, {})


def test_a_loss_that_is_not_finite_is_an_error():
    with pytest.raises(ModelError, match=r"epoch 1: loss nan at lr=1\.0e-01: use a smaller lr"):
        run_epochs(STARTS, Schedule(1, 0.1, 0.0, 1, 0), lambda piece: (float("nan"), 1), {})


def test_interrupted_it_keeps_what_was_learned(capsys):
    done = []

    def work(piece):
        done.append(piece)
        if len(done) == 4:
            _thread.interrupt_main()
        time.sleep(0.02)
        return 1.0, 1

    outcome = run_epochs(STARTS, Schedule(1000, 0.1, 0.0, 1, 0), work, {})
    assert outcome.stopped and 4 <= len(done) < 200
    assert outcome.words == sum(piece.words for piece in done)  # the last, finished while stopping, too
    share = outcome.words / 9000
    said = f"omnivec: stopped: {int(share)} of 1000 epochs and {share % 1:.0%} of the next are learned, and kept\n"
    assert capsys.readouterr().err == said


def test_interrupted_before_anything_was_learned_it_stops_as_ever():
    def work(piece):
        _thread.interrupt_main()
        time.sleep(0.1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_epochs(STARTS, Schedule(1000, 0.1, 0.0, 1, 0), work, {})


def test_interrupted_while_the_threads_begin_it_leaves_none_running(monkeypatch):
    begin, begun = threading.Thread.start, []

    def start(thread):
        if begun:
            raise KeyboardInterrupt
        begun.append(thread)
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with contextlib.suppress(KeyboardInterrupt):  # raised where the first thread has learned nothing yet
        run_epochs(STARTS, Schedule(1_000_000, 0.1, 0.0, 3, 0), lambda shard: (1.0, 1), {})
    assert len(begun) == 1 and not begun[0].is_alive()


def test_the_line_says_how_much_is_kept():
    line = stopped_line(0.5, 5)
    assert line == "stopped: 2 of 5 epochs and 50% of the next are learned, and kept"
