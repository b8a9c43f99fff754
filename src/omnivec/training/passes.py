"""The training loop of tables: epochs over a corpus by several threads, with a falling learning rate and Ctrl-C.

It is independent of recipes: training on a shard is a function that releases the GIL.

An epoch is divided into shards of whole sentences, of about equally many words: 1/64 of the corpus, but 1,000 to
100,000 words. Threads take the next shard when they are done with one. The learning rate falls linearly from shard to
shard, by the share of all words that come before. Example: five sentences of 400, 700, 800, 700 and 400 words, two
epochs, lr=0.025, min_lr=0.0001. 3,000 / 64 words are fewer than 1,000, so a shard ends with the first sentence that
ends at or after word 1,000, 2,000 and 3,000:

    starts      [0, 400, 1100, 1900, 2600, 3000]
    epoch 0     sentences 0-1   1,100 words     lr 0.0250
                sentences 2-3   1,500 words     lr 0.0204       1,100 of 6,000 words come before
                sentence 4      400 words       lr 0.0142       2,600 of 6,000
    epoch 1     sentences 0-1   1,100 words     lr 0.0126       3,000 of 6,000
                sentences 2-3   1,500 words     lr 0.0080
                sentence 4      400 words       lr 0.0018

Each shard's seed depends on the schedule's seed, the epoch and the shard's number. An epoch may begin while other
threads still train on shards of the one before.
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
"""Most words of a shard, apart from the rest of its last sentence."""
SHARDS = 64
"""Fewest shards of an epoch, if the corpus is large enough."""
SMALLEST = 1_000
"""Fewest words of a shard, except the last of an epoch."""
ROWS = 1 << 16
"""Rows that are checked at a time."""


@dataclass(frozen=True)
class Schedule:
    """The length of training, its learning rate and its seed.

    Attributes:
        epochs: passes over the corpus.
        lr: initial learning rate; it falls linearly.
        min_lr: final learning rate.
        threads: number of threads. Results are the same, bit for bit, for the same seed with one thread only.
        seed: seed of all random draws.
        show_progress_bar: whether to show progress on stderr; None: on a terminal or in a notebook.
    """

    epochs: int
    lr: float
    min_lr: float
    threads: int
    seed: int
    show_progress_bar: bool | None = None


class Shard(NamedTuple):
    """The sentences that one call trains on.

    Attributes:
        first, last: sentences first <= i < last.
        words: number of their words.
        lr: learning rate.
        seed: seed of the random draws for this shard, 63 bits.
        epoch: number of the epoch, from 0.
    """

    first: int
    last: int
    words: int
    lr: float
    seed: int
    epoch: int


class Outcome(NamedTuple):
    """The result of training.

    Attributes:
        loss: mean loss of the last epoch that was begun.
        words: number of words trained on in all epochs.
        seconds: wall-clock time.
        stopped: whether Ctrl-C ended training early.
    """

    loss: float
    words: int
    seconds: float
    stopped: bool


Work = Callable[[Shard], tuple[float, int]]
"""Trains on a shard; returns the sum of its losses and their number."""


def run_epochs(
    starts: NDArray[np.int64], schedule: Schedule, work: Work, tables: Mapping[str, NDArray[np.float32]]
) -> Outcome:
    """Trains on a corpus, with several threads that take shards in order.

    Ctrl-C ends training early: the tables keep what was learned so far, a partial epoch included, and a line on stderr
    says how much that is. If nothing was learned yet, KeyboardInterrupt is raised.

    Args:
        starts: (sentences + 1,) the offset of each sentence, in words, and the end of the last.
        schedule: epochs, learning rate, threads and seed.
        work: trains on a shard; called from several threads.
        tables: the tables that are trained, by name; their rows are checked after each epoch.

    Raises:
        ModelError: the loss or a row is not finite.
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
        try:
            for thread in threads:
                thread.start()
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
                if thread.is_alive():  # Ctrl-C may come before all of them have begun.
                    thread.join()
    if stopped:
        _reraise_if_nothing_learned(shards, done)
        say(stopped_line(shards.learned / report.total, schedule.epochs))
    check_finite(tables, f"epoch {report.epoch + 1}", schedule.lr)
    return Outcome(report.loss(), shards.learned, report.elapsed(), stopped)


def check_finite(tables: Mapping[str, NDArray[np.float32]], when: str, lr: float) -> None:
    """Raises ModelError if rows (n, dim) hold NaN or infinity, or if the square of a row's norm overflows float32."""
    for name, table in tables.items():
        bad = 0
        for first in range(0, len(table), ROWS):
            block = table[first : first + ROWS]
            bad += int(np.count_nonzero(~np.isfinite(np.einsum("ij,ij->i", block, block))))
        if bad:
            raise ModelError(
                f"{when}: {bad:,} of {len(table):,} {name} are not finite, or overflow when squared, at lr={lr:g}: use "
                "a smaller lr"
            )


def stopped_line(share: float, epochs: int) -> str:
    """The message after Ctrl-C: how many epochs were completed, and how much of the next; `share` is of all epochs."""
    whole, part = divmod(share * epochs, 1)
    return f"stopped: {int(whole)} of {epochs} epochs and {part:.0%} of the next are learned, and kept"


def _reraise_if_nothing_learned(shards: _Locked, done: queue.SimpleQueue[_Done | BaseException]) -> None:
    """Raises an error that occurred while the threads were stopping, or KeyboardInterrupt if nothing was learned."""
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
    """The shards of all epochs; see the example at the top."""
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
    """A thread-safe iterator of shards, which also counts the words of finished ones.

    Attributes:
        learned: number of words of finished shards. It is counted here, not in the main thread, where Ctrl-C may come
            between taking a finished shard from the queue and counting it.
    """

    def __init__(self, shards: Iterator[Shard]) -> None:
        self._shards = shards
        self._lock = threading.Lock()
        self.learned = 0

    def done(self, shard: Shard) -> None:
        """Counts a finished shard."""
        with self._lock:
            self.learned += shard.words

    def take(self) -> Shard | None:
        """The next shard; None at the end."""
        with self._lock:
            return next(self._shards, None)


def _take(
    shards: _Locked, work: Work, done: queue.SimpleQueue[_Done | BaseException], stop: threading.Event
) -> None:
    """Body of a thread: trains on shards and reports each to `done`, or the error that ended it."""
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
    """Counts words and losses, and prints a line about them on stderr every few seconds, if progress is shown."""

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
        """Mean loss of the last epoch that was begun."""
        total, count = self._losses[self.epoch]
        return float(total / max(count, 1))

    def add(self, one: _Done) -> None:
        """Counts a finished shard, and prints a line unless the last one is recent."""
        self.words += one.shard.words
        self.epoch = max(self.epoch, one.shard.epoch)
        self._losses[one.shard.epoch] += one.loss, one.losses
        rate = self.words / max(self.elapsed(), 1e-9)
        line = (
            f"epoch {self.epoch + 1} of {self._schedule.epochs}: loss {self.loss():.4f}, {rate:,.0f} words/s, "
            f"{(self.total - self.words) / rate:.0f} s left"
        )
        self._lines.tell(line, last=self.words == self.total)
