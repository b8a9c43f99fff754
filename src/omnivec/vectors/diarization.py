"""Diarization: which speaker speaks where, from vectors of short windows. One speaker at a time: overlap is not found.

Windows of a second or two are clustered by average link on the cosine. Those in which the speaker seems to change would
pull clusters together and are left out. Then each window goes to the most similar cluster, and each moment to the
window whose middle is nearest. Spans are arrays (n, 2) float64 of seconds: start and end, end exclusive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from omnivec.errors import UsageError
from omnivec.types import Ints
from omnivec.validation.arguments import real, whole
from omnivec.vectors.agglomerative import Dendrogram, average_link, renumbered
from omnivec.vectors.arrays import numbers
from omnivec.vectors.verification import unit_rows

Doubles = NDArray[np.float64]

LENGTH, STEP = 1.6, 0.25
"""Default length of a window and the distance of their starts, in seconds."""

SHORTEST_WINDOW = 0.4
"""Speech that is shorter, in seconds, gets no window of its own, but the speaker of the nearest window."""

SHORTEST_SPEAKER = 2.0
"""A cluster with less speech, in seconds, is no speaker: its windows go to the nearest other cluster."""

CHANGES = 0.2
"""Share of the windows, those in which the speaker most likely changes, that are left out of the clustering."""

SPANS = "spans (n, 2) of seconds, each start before its end"


@dataclass(frozen=True, eq=False)
class Turns:
    """Who speaks where.

    Attributes:
        spans: (n, 2) float64, start and end of each turn in seconds, ascending and without overlap.
        speakers: (n,) int64, the speaker of each turn, numbered from 0 in the order of their first turns.
    """

    spans: Doubles
    speakers: Ints

    def __len__(self) -> int:
        return len(self.spans)

    def __repr__(self) -> str:
        seconds = float((self.spans[:, 1] - self.spans[:, 0]).sum())
        return f"<Turns: {len(self):,} of {self.count} speakers, {seconds:,.1f} s>"

    @property
    def count(self) -> int:
        """Number of speakers."""
        return len(np.unique(self.speakers))


@dataclass(frozen=True)
class DiarizationError:
    """The diarization error rate (DER) and its parts, in seconds.

    Attributes:
        missed: speech of the reference in which no speaker was found.
        false_alarm: time without speech in which a speaker was found.
        confusion: speech that was given to another speaker, by the mapping that makes it least.
        total: speech of the reference.
    """

    missed: float
    false_alarm: float
    confusion: float
    total: float

    @property
    def rate(self) -> float:
        """The share of the speech that is wrong; above 1 if there are more false alarms than speech."""
        return (self.missed + self.false_alarm + self.confusion) / self.total


def windows(
    speech: ArrayLike, length: float = LENGTH, step: float = STEP, shortest: float = SHORTEST_WINDOW
) -> Doubles:
    """Windows over speech, each within one span of it.

    Args:
        speech: (n, 2) spans of speech in seconds, ascending and without overlap.
        length: of a window, in seconds.
        step: between the starts of windows, in seconds.
        shortest: a span of speech shorter than `length` is one window, unless it is also shorter than this.

    Returns:
        (m, 2) float64 spans, ascending. The last window of a span ends where the span does.

    Raises:
        UsageError: invalid spans, or a length or step that is not positive.

    Examples:
        >>> windows([[0, 2], [3, 4]], length=1.5, step=0.25)
        array([[0.  , 1.5 ], [0.25, 1.75], [0.5 , 2.  ], [3.  , 4.  ]])
    """
    for name, value in (("length", length), ("step", step)):
        if real(name, value) <= 0:
            raise UsageError(f"{name}={value}: seconds above 0")
    found = []
    for start, end in checked_spans(speech, "speech").tolist():
        room = end - start - length
        if room < 0:
            found += [(start, end)] if end - start >= shortest - 1e-9 else []
            continue
        steps = math.floor(room / step + 1e-9)
        found += [(start + i * step, start + i * step + length) for i in range(steps + 1)]
        if room - steps * step > 1e-6:
            found.append((end - length, end))
    return np.array(found, np.float64).reshape(-1, 2)


def speaker_turns(
    vectors: ArrayLike,
    spans: ArrayLike,
    speech: ArrayLike | None = None,
    *,
    count: int | None = None,
    threshold: float | None = None,
    shortest: float = SHORTEST_SPEAKER,
) -> Turns:
    """Finds the turns of speakers from the vectors of windows.

    Args:
        vectors: (n, dim), one for each window.
        spans: (n, 2) the windows in seconds, in ascending order; they may overlap.
        speech: (m, 2) spans of speech, to which turns are limited; None for all the time between the first window's
            start and the last one's end.
        count: number of speakers, if it is known.
        threshold: if it is not: clusters are merged while the mean cosine between them is at least this. The best value
            depends on the model and on the length of the windows.
        shortest: seconds of speech below which a cluster is no speaker. If `count` is given, clusters are counted
            without those, unless there are too few others.

    Raises:
        UsageError: neither or both of `count` and `threshold`, or invalid arguments.
    """
    rows, times = unit_rows(vectors), numbers("spans", spans, 2, SPANS).astype(np.float64)
    if (count is None) == (threshold is None):
        raise UsageError("give the number of speakers or a threshold, and not both")
    if times.shape != (len(rows), 2) or not len(rows):
        raise UsageError(
            f"{len(rows)} vectors and spans of shape {times.shape}: at least one, and a span for each"
        )
    middles = times.mean(axis=1)
    if (np.diff(middles) <= 0).any():
        raise UsageError("the windows are not in ascending order of their middles")
    heard = checked_spans([[times[0, 0], times[-1, 1]]] if speech is None else speech, "speech")
    steady = _steady(rows, times)
    seconds = _overlaps(_edges(middles[steady]), heard)
    tree = average_link(rows[steady])
    if count is not None:
        labels = _of_count(tree, seconds, whole("count", count, 1), shortest)
    else:
        labels = tree.cut(distance=1 - real("threshold", threshold, -1, 1))
    labels = _without_small(labels, rows[steady], seconds, shortest, count or 1)
    labels = renumbered(np.argmax(rows @ _means(rows[steady], labels).T, axis=1))
    edges = _edges(middles)
    labels = _without_small(labels, rows, _overlaps(edges, heard), shortest, count or 1)
    return _turns(labels, edges, heard)


def diarization_error(reference: Turns, found: Turns, collar: float = 0.0) -> DiarizationError:
    """The diarization error rate with the best mapping of speakers, without overlap.

    Args:
        reference: who speaks where in truth.
        found: who was found.
        collar: seconds before and after each boundary of the reference that are not counted. Published figures often
            use 0.25.

    Raises:
        UsageError: a reference without speech outside the collars, a negative collar, or turns that overlap.
    """
    margin = real("collar", collar, 0.0)
    for name, turns in (("reference", reference), ("found", found)):
        checked_spans(turns.spans, name)
    bounds = np.unique(np.concatenate([reference.spans.reshape(-1), found.spans.reshape(-1)]))
    around = reference.spans.reshape(-1, 1) + np.array([-margin, margin])
    edges = np.unique(np.concatenate([bounds, around.reshape(-1)])) if margin else bounds
    middles, seconds = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    if margin:
        seconds = seconds * ~_inside(middles, around)
    true, given = _speakers_at(reference, middles), _speakers_at(found, middles)
    together = np.zeros((reference.speakers.max(initial=-1) + 1, found.speakers.max(initial=-1) + 1))
    both = (true >= 0) & (given >= 0)
    np.add.at(together, (true[both], given[both]), seconds[both])
    rows, columns = best_assignment(together)
    total = float(seconds[true >= 0].sum())
    if total <= 0:
        raise UsageError(
            f"the reference has no speech outside its {len(reference)} turns' collars of {margin:g} s: there is "
            "nothing to count"
        )
    return DiarizationError(
        missed=float(seconds[(true >= 0) & (given < 0)].sum()),
        false_alarm=float(seconds[(true < 0) & (given >= 0)].sum()),
        confusion=max(float(together.sum() - together[rows, columns].sum()), 0.0),
        total=total,
    )


def best_assignment(gains: ArrayLike) -> tuple[Ints, Ints]:
    """Pairs rows with columns so that the sum of gains is largest, each row and column in at most one pair.

    The Hungarian method with potentials (Kuhn 1955, doi:10.1002/nav.3800020109), O(n² m) for n rows and m columns.

    Args:
        gains: (n, m) finite numbers.

    Returns:
        Rows and columns of the min(n, m) pairs, rows ascending, as `scipy.optimize.linear_sum_assignment` with
        maximize=True.
    """
    table = numbers("gains", gains, 2, "gains (n, m)").astype(np.float64)
    if table.shape[0] > table.shape[1]:
        columns, rows = best_assignment(table.T)
        order = np.argsort(rows)
        return rows[order], columns[order]
    count, width = table.shape
    costs = np.zeros((count + 1, width + 1))
    costs[1:, 1:] = -table
    # Row and column 0 stand for "none": row i is put in column 0, and a shortest augmenting path places it.
    row_potential, potential = np.zeros(count + 1), np.zeros(width + 1)
    matched = np.zeros(width + 1, np.int64)
    for i in range(1, count + 1):
        matched[0] = i
        _augment(costs, row_potential, potential, matched)
    columns = np.flatnonzero(matched[1:])
    rows = matched[1:][columns] - 1
    order = np.argsort(rows)
    return rows[order], columns[order]


def _augment(costs: Doubles, row_potential: Doubles, potential: Doubles, matched: Ints) -> None:
    """Places the row that is in column 0 by a shortest path to a free column, and moves the rows on the path."""
    width = costs.shape[1]
    least, before = np.full(width, np.inf), np.zeros(width, np.int64)
    done, column = np.zeros(width, bool), 0
    while matched[column]:
        done[column] = True
        row = matched[column]
        slack = costs[row] - row_potential[row] - potential
        nearer = ~done & (slack < least)
        nearer[0] = False
        least[nearer], before[nearer] = slack[nearer], column
        open_columns = np.flatnonzero(~done)
        following = int(open_columns[np.argmin(least[open_columns])])
        delta = least[following]
        row_potential[matched[done]] += delta
        potential[done] -= delta
        least[~done] -= delta
        column = following
    while column:
        matched[column] = matched[before[column]]
        column = int(before[column])


def checked_spans(spans: ArrayLike, name: str = "spans") -> Doubles:
    """Spans (n, 2) float64, ascending and without overlap.

    Raises:
        UsageError: another shape, numbers that are not finite, a span that ends before it starts, or overlap.
    """
    times = numbers(name, spans, None, SPANS).astype(np.float64)
    times = times.reshape(0, 2) if not times.size else times
    if times.ndim != 2 or times.shape[1] != 2 or not np.isfinite(times).all():
        raise UsageError(f"{name} of shape {times.shape}: give {SPANS}")
    for i, (start, end) in enumerate(times.tolist()):
        if end <= start:
            raise UsageError(f"{name}: span {i} ends at {end:g} s and starts at {start:g} s")
        if i and start < times[i - 1, 1] - 1e-9:
            raise UsageError(
                f"{name}: span {i} starts at {start:g} s, before span {i - 1} ends at {times[i - 1, 1]:g} s: give "
                "spans in order and without overlap"
            )
    return times


def _edges(middles: Doubles) -> Doubles:
    """The times (n + 1,) between which each of n middles is the nearest; the first and the last are infinite."""
    return np.concatenate([[-np.inf], (middles[1:] + middles[:-1]) / 2, [np.inf]])


def _steady(rows: Doubles, times: Doubles) -> NDArray[np.bool_]:
    """Whether the speaker stays the same in a window: are the windows half a length before and after it similar?

    All but a share of `CHANGES` are taken to be steady.
    """
    middles, half = times.mean(axis=1), (times[:, 1] - times[:, 0]) / 2 + 1e-6
    before = np.searchsorted(middles, middles - half, "left")
    after = np.searchsorted(middles, middles + half, "right") - 1
    likeness = np.einsum("ij,ij->i", rows[before], rows[after])
    steady: NDArray[np.bool_] = likeness >= np.quantile(likeness, CHANGES)
    return steady


def _means(rows: Doubles, labels: Ints) -> Doubles:
    """The mean of each cluster's unit vectors, scaled to length 1."""
    sums = np.zeros((labels.max() + 1, rows.shape[1]))
    np.add.at(sums, labels, rows)
    return unit_rows(sums)


def _overlaps(edges: Doubles, speech: Doubles) -> Doubles:
    """Seconds of speech between each two neighbouring edges."""
    if not len(speech):
        return np.zeros(len(edges) - 1)
    # Speech before each start and each end, between which it grows evenly.
    amounts = np.cumsum(speech[:, 1] - speech[:, 0])
    before = np.stack([amounts - (speech[:, 1] - speech[:, 0]), amounts], axis=1)
    times = np.clip(edges, speech[0, 0], speech[-1, 1])
    seconds: Doubles = np.diff(np.interp(times, speech.reshape(-1), before.reshape(-1)))
    return seconds


def _of_count(tree: Dendrogram, seconds: Doubles, count: int, shortest: float) -> Ints:
    """The highest level with `count` clusters that have enough speech; that of `count` clusters if there is none."""
    leaves = len(tree.merges) + 1
    speech = np.concatenate([np.bincount(tree.start, seconds, leaves), np.zeros(leaves - 1)])
    large = int((speech[:leaves] >= shortest).sum())
    best = leaves if large >= count else 0
    for i, (one, other) in enumerate(tree.merges.tolist()):
        speech[leaves + i] = speech[one] + speech[other]
        both = speech[[one, other]] >= shortest
        large += int(speech[leaves + i] >= shortest) - int(both.sum())
        best = leaves - 1 - i if large >= count else best
    return tree.cut(best or min(count, leaves))


def _without_small(labels: Ints, rows: Doubles, seconds: Doubles, shortest: float, count: int) -> Ints:
    """Labels after the windows of clusters with little speech are given to the nearest of the others."""
    speech = np.bincount(labels, seconds)
    large = speech >= shortest
    if large.sum() < count:  # the clusters with the most speech, if there are too few that have enough
        large = np.zeros(len(speech), bool)
        large[np.argsort(-speech, kind="stable")[:count]] = True
    if large.all():
        return labels
    kept = np.flatnonzero(large)
    nearest = kept[np.argmax(rows @ _means(rows, labels)[kept].T, axis=1)]
    return renumbered(np.where(large[labels], labels, nearest))


def _turns(labels: Ints, edges: Doubles, speech: Doubles) -> Turns:
    """The speech between two edges is the label's; pieces of one speaker that touch are joined."""
    spans: list[list[float]] = []
    speakers: list[int] = []
    for start, end in speech.tolist():
        first, last = np.searchsorted(edges, start, "right") - 1, np.searchsorted(edges, end, "left") - 1
        begin = start
        for i in range(first, last + 1):
            until = min(end, float(edges[i + 1]))
            if i == last or labels[i + 1] != labels[i]:
                if speakers and speakers[-1] == labels[i] and spans[-1][1] == begin:
                    spans[-1][1] = until
                else:
                    spans.append([begin, until])
                    speakers.append(int(labels[i]))
                begin = until
    return Turns(np.array(spans, np.float64).reshape(-1, 2), renumbered(np.array(speakers, np.int64)))


def _speakers_at(turns: Turns, times: Doubles) -> Ints:
    """The speaker at each time, -1 for none."""
    if not len(turns):
        return np.full(len(times), -1)
    place = np.searchsorted(turns.spans[:, 0], times, "right") - 1
    inside = (place >= 0) & (times < turns.spans[np.maximum(place, 0), 1])
    return np.where(inside, turns.speakers[np.maximum(place, 0)], -1)


def _inside(times: Doubles, spans: Doubles) -> NDArray[np.bool_]:
    """Whether each time is in one of the spans, which may overlap."""
    starts, ends = np.sort(spans[:, 0]), np.sort(spans[:, 1])
    inside: NDArray[np.bool_] = np.searchsorted(starts, times, "right") > np.searchsorted(
        ends, times, "right"
    )
    return inside
