"""Passes over a corpus by threads: pieces of it in turn, a learning rate that falls, progress, and Ctrl-C.

It knows no recipe: the work on a piece is a function that lets go of the interpreter's lock.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from omnivec import progress
from omnivec.errors import ModelError
from omnivec.progress import say

LARGEST = 100_000
"""Words of a piece, about."""
PIECES = 64
"""Pieces that an epoch has at least, where the corpus is large enough for them."""
SMALLEST = 1_000
ROWS = 1 << 16
"""Rows that are checked at a time."""


@dataclass(frozen=True)
class Pace:
    """How long and how fast to learn.

    Attributes:
        epochs: passes.
        lr: learning rate of the first piece; it falls in a straight line.
        min_lr: what it falls to.
        threads: that work at a time. One gives the same bits for the same seed; several do not.
        seed: of all that is drawn.
        show_progress_bar: whether to show progress on stderr; None in a terminal or a notebook.
    """

    epochs: int
    lr: float
    min_lr: float
    threads: int
    seed: int
    show_progress_bar: bool | None = None


class Piece(NamedTuple):
    """What one call works on.

    Attributes:
        first, last: sentences first <= i < last.
        words: in them.
        lr: learning rate.
        seed: of what is drawn here, 63 bits.
        epoch: from 0.
    """

    first: int
    last: int
    words: int
    lr: float
    seed: int
    epoch: int


class Outcome(NamedTuple):
    """What became of the passes.

    Attributes:
        loss: mean over the last epoch begun.
        words: worked on, all passes together.
        seconds: on the clock.
        stopped: whether Ctrl-C ended them early.
    """

    loss: float
    words: int
    seconds: float
    stopped: bool


Work = Callable[[Piece], tuple[float, int]]
"""Learns from a piece; returns the sum of its losses and their number."""


def over(
    starts: NDArray[np.int64], pace: Pace, work: Work, tables: Mapping[str, NDArray[np.float32]]
) -> Outcome:
    """Works through a corpus, pieces in order, some at a time.

    Ctrl-C ends it early: what was learned by then stays, the part of an epoch included, and a line on stderr says how
    much that is. Before anything was learned it is a KeyboardInterrupt as ever.

    Args:
        starts: where each sentence begins, and the end of the last.
        pace: how long and how fast.
        work: what to do with a piece; called from several threads.
        tables: what is learned, by name; its rows are checked after each epoch.

    Raises:
        ModelError: the loss is not finite, or what is learned.
    """
    pieces, done, stop = (
        _Locked(_pieces(starts, pace)),
        queue.SimpleQueue[_Done | BaseException](),
        threading.Event(),
    )
    threads = [
        threading.Thread(target=_take, args=(pieces, work, done, stop), daemon=True)
        for _ in range(pace.threads)
    ]
    report = _Report(pace, int(starts[-1] - starts[0]))
    stopped = False
    with progress.bar("training", report.total, "words", pace.show_progress_bar) as bar:
        for thread in threads:
            thread.start()
        try:
            while report.words < report.total:
                one = done.get()
                if isinstance(one, BaseException):
                    raise one
                if one.piece.epoch > report.epoch:
                    check_finite(tables, f"epoch {report.epoch + 1}", pace.lr)
                report.add(one)
                bar.advance(one.piece.words)
        except KeyboardInterrupt:
            stopped = True
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    if stopped:
        _refuse_nothing(pieces, done)
        say(stopped_line(pieces.learned / report.total, pace.epochs))
    check_finite(tables, f"epoch {report.epoch + 1}", pace.lr)
    return Outcome(report.loss(), pieces.learned, report.elapsed(), stopped)


def check_finite(tables: Mapping[str, NDArray[np.float32]], when: str, lr: float) -> None:
    """Raises ModelError where rows (n, dim) hold NaN or infinity, or are too long for their length to be a float32."""
    for name, table in tables.items():
        bad = 0
        for first in range(0, len(table), ROWS):
            part = table[first : first + ROWS]
            bad += int(np.count_nonzero(~np.isfinite(np.einsum("ij,ij->i", part, part))))
        if bad:
            raise ModelError(
                f"{when}: {bad:,} of {len(table):,} {name} are not finite, or of no finite length, at lr={lr:g}: use a "
                "smaller lr"
            )


def stopped_line(share: float, epochs: int) -> str:
    """What Ctrl-C leaves, `share` of all passes done: how many are in it, and how much of the one that was running."""
    whole, part = divmod(share * epochs, 1)
    return f"stopped: {int(whole)} of {epochs} epochs and {part:.0%} of the next are learned, and kept"


def _refuse_nothing(pieces: _Locked, done: queue.SimpleQueue[_Done | BaseException]) -> None:
    """Raises what went wrong while the threads were stopping, or KeyboardInterrupt where nothing was learned."""
    while not done.empty():
        one = done.get()
        if isinstance(one, BaseException) and not isinstance(one, KeyboardInterrupt):
            raise one
    if not pieces.learned:
        raise KeyboardInterrupt


class _Done(NamedTuple):
    piece: Piece
    loss: float
    losses: int


def _pieces(starts: NDArray[np.int64], pace: Pace) -> Iterator[Piece]:
    """Whole sentences, about as many words in each piece."""
    total = int(starts[-1] - starts[0])
    size = min(max(total // PIECES, SMALLEST), LARGEST)
    ends = np.searchsorted(starts, np.arange(starts[0] + size, starts[-1] + size, size)).clip(
        max=len(starts) - 1
    )
    ends = np.unique(ends[ends > 0])
    firsts = np.append(0, ends[:-1]) if len(ends) else ends
    for epoch in range(pace.epochs):
        for i, (first, last) in enumerate(zip(firsts.tolist(), ends.tolist(), strict=True)):
            share = (epoch + int(starts[first] - starts[0]) / total) / pace.epochs
            seed = int(
                np.random.SeedSequence([pace.seed, epoch, i]).generate_state(1, np.uint64)[0] >> np.uint64(1)
            )
            words = int(starts[last] - starts[first])
            yield Piece(first, last, words, pace.lr + (pace.min_lr - pace.lr) * share, seed, epoch)


class _Locked:
    """An iterator that several threads take from, and say when they are done with what they took.

    Attributes:
        learned: words of the pieces that are done. The main thread cannot count them: Ctrl-C may come between its
            taking a piece from the queue and adding it.
    """

    def __init__(self, pieces: Iterator[Piece]) -> None:
        self._pieces = pieces
        self._lock = threading.Lock()
        self.learned = 0

    def done(self, piece: Piece) -> None:
        """A piece is learned from."""
        with self._lock:
            self.learned += piece.words

    def take(self) -> Piece | None:
        with self._lock:
            return next(self._pieces, None)


def _take(
    pieces: _Locked, work: Work, done: queue.SimpleQueue[_Done | BaseException], stop: threading.Event
) -> None:
    try:
        while not stop.is_set() and (piece := pieces.take()) is not None:
            loss, count = work(piece)
            if not np.isfinite(loss):
                raise ModelError(
                    f"epoch {piece.epoch + 1}: loss {loss} at lr={piece.lr:.1e}: use a smaller lr"
                )
            pieces.done(piece)
            done.put(_Done(piece, loss, count))
    except BaseException as error:
        done.put(error)


class _Report:
    """Counts, and lines about the loss on stderr, where progress is shown: every few seconds, and at the end."""

    def __init__(self, pace: Pace, words: int) -> None:
        self._lines = progress.Report(pace.show_progress_bar, at_once=True)
        self._pace = pace
        self._losses = np.zeros((pace.epochs, 2))
        self.epoch = 0
        self.words = 0
        self.total = words * pace.epochs

    def elapsed(self) -> float:
        """Seconds since training began."""
        return self._lines.elapsed()

    def loss(self) -> float:
        """Mean over the last epoch begun."""
        total, count = self._losses[self.epoch]
        return float(total / max(count, 1))

    def add(self, one: _Done) -> None:
        """Says how it goes, unless that was reported just now."""
        self.words += one.piece.words
        self.epoch = max(self.epoch, one.piece.epoch)
        self._losses[one.piece.epoch] += one.loss, one.losses
        rate = self.words / max(self.elapsed(), 1e-9)
        line = (
            f"epoch {self.epoch + 1} of {self._pace.epochs}: loss {self.loss():.4f}, {rate:,.0f} words/s, "
            f"{(self.total - self.words) / rate:.0f} s left"
        )
        self._lines.tell(line, last=self.words == self.total)
