"""Passes over a corpus by threads: shards of it in turn, a learning rate that falls, progress, and Ctrl-C.

It knows no recipe: the work on a shard is a function that lets go of the interpreter's lock.
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
"""Words of a shard, about."""
SHARDS = 64
"""Shards that an epoch has at least, where the corpus is large enough for them."""
SMALLEST = 1_000
ROWS = 1 << 16
"""Rows that are checked at a time."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to learn.

    Attributes:
        epochs: passes.
        lr: learning rate of the first shard; it falls in a straight line.
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


class Shard(NamedTuple):
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


Work = Callable[[Shard], tuple[float, int]]
"""Learns from a shard; returns the sum of its losses and their number."""


def run_epochs(
    starts: NDArray[np.int64], schedule: Schedule, work: Work, tables: Mapping[str, NDArray[np.float32]]
) -> Outcome:
    """Works through a corpus, shards in order, some at a time.

    Ctrl-C ends it early: what was learned by then stays, the part of an epoch included, and a line on stderr says how
    much that is. Before anything was learned it is a KeyboardInterrupt as ever.

    Args:
        starts: where each sentence begins, and the end of the last.
        schedule: how long and how fast.
        work: what to do with a shard; called from several threads.
        tables: what is learned, by name; its rows are checked after each epoch.

    Raises:
        ModelError: the loss is not finite, or what is learned.
    """
    shards, done, stop = (
        _Locked(_shards(starts, schedule)),
        queue.SimpleQueue[_Done | BaseException](),
        threading.Event(),
    )
    threads = [
        threading.Thread(target=_take, args=(shards, work, done, stop), daemon=True)
        for _ in range(schedule.threads)
    ]
    report = _LossReport(schedule, int(starts[-1] - starts[0]))
    stopped = False
    with progress.bar("training", report.total, "words", schedule.show_progress_bar) as bar:
        for thread in threads:
            thread.start()
        try:
            while report.words < report.total:
                one = done.get()
                if isinstance(one, BaseException):
                    raise one
                if one.shard.epoch > report.epoch:
                    check_finite(tables, f"epoch {report.epoch + 1}", schedule.lr)
                report.add(one)
                bar.advance(one.shard.words)
        except KeyboardInterrupt:
            stopped = True
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    if stopped:
        _reraise_if_nothing_learned(shards, done)
        say(stopped_line(shards.learned / report.total, schedule.epochs))
    check_finite(tables, f"epoch {report.epoch + 1}", schedule.lr)
    return Outcome(report.loss(), shards.learned, report.elapsed(), stopped)


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


def _reraise_if_nothing_learned(shards: _Locked, done: queue.SimpleQueue[_Done | BaseException]) -> None:
    """Raises what went wrong while the threads were stopping, or KeyboardInterrupt where nothing was learned."""
    while not done.empty():
        one = done.get()
        if isinstance(one, BaseException) and not isinstance(one, KeyboardInterrupt):
            raise one
    if not shards.learned:
        raise KeyboardInterrupt


class _Done(NamedTuple):
    shard: Shard
    loss: float
    losses: int


def _shards(starts: NDArray[np.int64], schedule: Schedule) -> Iterator[Shard]:
    """Whole sentences, about as many words in each shard."""
    total = int(starts[-1] - starts[0])
    size = min(max(total // SHARDS, SMALLEST), LARGEST)
    ends = np.searchsorted(starts, np.arange(starts[0] + size, starts[-1] + size, size)).clip(
        max=len(starts) - 1
    )
    ends = np.unique(ends[ends > 0])
    firsts = np.append(0, ends[:-1]) if len(ends) else ends
    for epoch in range(schedule.epochs):
        for i, (first, last) in enumerate(zip(firsts.tolist(), ends.tolist(), strict=True)):
            share = (epoch + int(starts[first] - starts[0]) / total) / schedule.epochs
            seed = int(
                np.random.SeedSequence([schedule.seed, epoch, i]).generate_state(1, np.uint64)[0]
                >> np.uint64(1)
            )
            words = int(starts[last] - starts[first])
            yield Shard(
                first, last, words, schedule.lr + (schedule.min_lr - schedule.lr) * share, seed, epoch
            )


class _Locked:
    """An iterator that several threads take from, and say when they are done with what they took.

    Attributes:
        learned: words of the shards that are done. The main thread cannot count them: Ctrl-C may come between its
            taking a shard from the queue and adding it.
    """

    def __init__(self, shards: Iterator[Shard]) -> None:
        self._shards = shards
        self._lock = threading.Lock()
        self.learned = 0

    def done(self, shard: Shard) -> None:
        """A shard is learned from."""
        with self._lock:
            self.learned += shard.words

    def take(self) -> Shard | None:
        with self._lock:
            return next(self._shards, None)


def _take(
    shards: _Locked, work: Work, done: queue.SimpleQueue[_Done | BaseException], stop: threading.Event
) -> None:
    try:
        while not stop.is_set() and (shard := shards.take()) is not None:
            loss, count = work(shard)
            if not np.isfinite(loss):
                raise ModelError(
                    f"epoch {shard.epoch + 1}: loss {loss} at lr={shard.lr:.1e}: use a smaller lr"
                )
            shards.done(shard)
            done.put(_Done(shard, loss, count))
    except BaseException as error:
        done.put(error)


class _LossReport:
    """Counts, and lines about the loss on stderr, where progress is shown: every few seconds, and at the end."""

    def __init__(self, schedule: Schedule, words: int) -> None:
        self._lines = progress.Report(schedule.show_progress_bar, at_once=True)
        self._schedule = schedule
        self._losses = np.zeros((schedule.epochs, 2))
        self.epoch = 0
        self.words = 0
        self.total = words * schedule.epochs

    def elapsed(self) -> float:
        """Seconds since training began."""
        return self._lines.elapsed()

    def loss(self) -> float:
        """Mean over the last epoch begun."""
        total, count = self._losses[self.epoch]
        return float(total / max(count, 1))

    def add(self, one: _Done) -> None:
        """Says how it goes, unless that was reported just now."""
        self.words += one.shard.words
        self.epoch = max(self.epoch, one.shard.epoch)
        self._losses[one.shard.epoch] += one.loss, one.losses
        rate = self.words / max(self.elapsed(), 1e-9)
        line = (
            f"epoch {self.epoch + 1} of {self._schedule.epochs}: loss {self.loss():.4f}, {rate:,.0f} words/s, "
            f"{(self.total - self.words) / rate:.0f} s left"
        )
        self._lines.tell(line, last=self.words == self.total)
