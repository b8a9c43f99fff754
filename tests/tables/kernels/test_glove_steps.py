"""Steps of GloVe equal the formulas in NumPy; the order is new in each epoch, and no entry is lost."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from omnivec.tables.kernels import glove
from omnivec.tables.kernels.cooccurrence import Cooccurrence
from omnivec.tables.kernels.glove import Factorisation, Logarithms, Tables
from omnivec.tables.kernels.simd import compiled, load, store

HOW = Factorisation(x_max=10.0, alpha=0.75, lr=0.05, threads=1, seed=0)


def permutation(words: int) -> Cooccurrence:
    """One entry in each row and column: the order of the steps cannot matter. Some are above x_max, some below 1."""
    random = np.random.default_rng(5)
    columns = random.permutation(words).astype(np.int32)
    return Cooccurrence(np.arange(words + 1), columns, random.uniform(0.07, 30, words).astype(np.float32))


def sparse(words: int, density: float = 0.5) -> Cooccurrence:
    random = np.random.default_rng(6)
    full = np.where(random.random((words, words)) < density, random.gamma(1.0, 9.0, (words, words)), 0)
    rows, columns = np.nonzero(full)
    indptr = np.searchsorted(rows, np.arange(words + 1))
    return Cooccurrence(indptr, columns.astype(np.int32), full[rows, columns].astype(np.float32))


class Reference:
    """The method as published, in float64, for matrices of one entry in each row and column."""

    def __init__(self, tables: Tables, columns: np.ndarray, values: np.ndarray) -> None:
        dim = tables.dim
        self.w, self.v = (t[:, 0, :dim].astype(float) for t in (tables.words, tables.contexts))
        self.b, self.c = (t[:, 0].astype(float) for t in (tables.word_biases, tables.context_biases))
        self.sums = [np.ones_like(part) for part in (self.w, self.v, self.b, self.c)]
        self.columns, self.logs = columns, np.log(values.astype(float))
        self.weights = np.minimum(1, (values.astype(float) / HOW.x_max) ** HOW.alpha)

    def step(self, lr: float) -> float:
        """Cost before it."""
        j = self.columns
        error = (self.w * self.v[j]).sum(1) + self.b + self.c[j] - self.logs
        slope = self.weights * error
        steps = [
            lr * np.clip(slope[:, None] * self.v[j], -100, 100),
            np.empty_like(self.v),
            slope,
            np.empty_like(slope),
        ]
        steps[1][j], steps[3][j] = lr * np.clip(slope[:, None] * self.w, -100, 100), slope
        for part, sums, step in zip((self.w, self.v, self.b, self.c), self.sums, steps, strict=True):
            part -= step / np.sqrt(sums)
            sums += step**2
        return float((0.5 * slope * error).sum())


@pytest.mark.parametrize(
    ("dim", "lr", "scale"),
    [
        (1, 0.05, 1),
        (16, 0.05, 1),
        (100, 0.05, 1),
        (20, 3.0, 1),
        (20, 0.05, 200),
    ],  # the last: steps are limited
)
def test_steps_equal_the_formulas(dim: int, lr: float, scale: int) -> None:
    counts = permutation(50)
    tables = Tables.drawn(50, dim, 1)
    tables.words[:, 0] *= scale
    tables.contexts[:, 0] *= scale
    reference = Reference(tables, counts.columns.copy(), counts.values.copy())
    matrix = Logarithms.of(counts)
    how = Factorisation(HOW.x_max, HOW.alpha, lr, 1, 0)
    for number in range(4):
        costs = list(glove.epoch(tables, matrix, how, number))
        assert sum(cost for cost, _ in costs) == pytest.approx(reference.step(lr), rel=2e-4)
        assert sum(entries for _, entries in costs) == 50
    for mine, theirs in (
        (tables.words[:, 0, :dim], reference.w),
        (tables.contexts[:, 0, :dim], reference.v),
        (tables.words[:, 1, :dim], reference.sums[0]),
        (tables.contexts[:, 1, :dim], reference.sums[1]),
        (tables.word_biases[:, 0], reference.b),
        (tables.context_biases[:, 0], reference.c),
        (tables.word_biases[:, 1], reference.sums[2]),
        (tables.context_biases[:, 1], reference.sums[3]),
    ):
        assert np.abs(mine - theirs).max() <= 1e-3 * np.abs(theirs).max()
    assert not tables.words[:, 0, dim:].any(), "padding stays zero"
    added = tables.words[:, 0, :dim] + tables.contexts[:, 0, :dim]
    assert np.array_equal(tables.vectors(), added)
    assert np.array_equal(tables.vectors(contexts=False), tables.words[:, 0, :dim])


def test_a_step_goes_down_the_slope_of_the_cost() -> None:
    tables = Tables.drawn(1, 3, 2)
    tables.words[:, 0, :3], tables.contexts[:, 0, :3] = [[0.5, -1, 2]], [[1, 0.25, -0.5]]
    before = tables.words[0, 0, :3].astype(float)
    v, biases = (
        tables.contexts[0, 0, :3].astype(float),
        tables.word_biases[0, 0] + tables.context_biases[0, 0],
    )

    def cost(w: np.ndarray) -> float:
        return float(0.5 * (4 / 10) ** 0.75 * (w @ v + biases - np.log(4)) ** 2)

    slope = [(cost(before + e) - cost(before - e)) / 2e-6 for e in 1e-6 * np.eye(3)]
    matrix = Logarithms.of(Cooccurrence(np.array([0, 1]), np.zeros(1, np.int32), np.array([4], np.float32)))
    [(found, entries)] = glove.epoch(tables, matrix, HOW, 0)
    assert (found, entries) == (pytest.approx(cost(before), rel=1e-5), 1)
    assert tables.words[0, 0, :3] - before == pytest.approx(-HOW.lr * np.array(slope), rel=1e-3)


def entries(matrix: Logarithms) -> list[list[tuple[int, float]]]:
    pairs = list(zip(matrix.columns.tolist(), matrix.logs.tolist(), strict=True))
    return [sorted(pairs[a:b]) for a, b in zip(matrix.indptr, matrix.indptr[1:], strict=False)]


def test_blocks_cover_each_row_once() -> None:
    counts = sparse(300)
    indptr = counts.indptr
    matrix = Logarithms.of(counts)
    sizes = np.diff(matrix.starts)
    assert matrix.starts[0] == 0 and matrix.starts[-1] == len(counts)
    assert sizes.min() >= 1 and sizes.max() == glove.BLOCK
    for block, row in enumerate(matrix.rows):
        assert indptr[row] <= matrix.starts[block] < matrix.starts[block + 1] <= indptr[row + 1]


def test_entries_change_places_in_their_rows_whatever_the_threads() -> None:
    one, four = Logarithms.of(sparse(300)), Logarithms.of(sparse(300))
    first, before = entries(one), one.columns.copy()
    glove._shuffle(one, 9, 1)
    glove._shuffle(four, 9, 4)
    assert entries(one) == first
    assert np.array_equal(one.columns, four.columns) and np.array_equal(one.logs, four.logs)
    assert (one.columns == before).mean() < 0.1
    glove._shuffle(four, 10, 4)
    assert (one.columns == four.columns).mean() < 0.1


def test_all_orders_of_a_row_are_equally_likely() -> None:
    rows = 6_000
    columns, logs = np.tile(np.arange(3, dtype=np.int32), rows), np.zeros(3 * rows, np.float32)
    starts = np.arange(0, 3 * rows + 1, 3)
    glove._shuffle(Logarithms(starts, columns, logs, np.arange(rows, dtype=np.int32), starts), 1, 1)
    _, seen = np.unique(columns.reshape(rows, 3), axis=0, return_counts=True)
    assert len(seen) == 6
    assert np.abs(seen - 1_000).max() < 4 * np.sqrt(1_000 * 5 / 6)


def trained(threads: int, seed: int, epochs: int = 8) -> tuple[Tables, list[float]]:
    tables, matrix = Tables.drawn(300, 20, seed), Logarithms.of(sparse(300))
    how = Factorisation(10.0, 0.75, 0.05, threads, seed)
    return tables, [
        sum(cost for cost, _ in glove.epoch(tables, matrix, how, number)) for number in range(epochs)
    ]


def test_the_same_seed_gives_the_same_bits_and_the_cost_falls() -> None:
    one, costs = trained(1, 3)
    again, same = trained(1, 3)
    other, _ = trained(1, 4)
    assert costs == same
    assert all(np.array_equal(a, b) for a, b in zip(one[:4], again[:4], strict=True))
    assert not np.array_equal(one.words, other.words)
    assert sorted(costs, reverse=True) == costs and costs[-1] < 0.8 * costs[0]


def test_several_threads_learn_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    _, costs = trained(1, 3)
    monkeypatch.setattr(glove, "PIECE", 64)
    _, hasty = trained(4, 3)
    assert hasty[-1] == pytest.approx(costs[-1], rel=0.05)


@compiled
def roots(values: np.ndarray, limit: np.ndarray) -> None:
    for i in range(0, len(values), 16):
        store(values, i, glove.inverse_root(glove.limited(load(values, i), load(limit, 0))))


def test_inverse_roots() -> None:
    values = np.geomspace(1e-6, 1e12, 1600).astype(np.float32)
    expected = 1 / np.sqrt(np.minimum(values, 1e9).astype(float))
    roots(values, np.full(16, 1e9, np.float32))
    assert np.abs(values / expected - 1).max() < 5.5e-6
