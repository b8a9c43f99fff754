"""Kills of a writer, with a full history: every acknowledged operation and every observed answer against a model.

    python benchmarks/kills.py [--kills 30] [--seed 0] [--migrate] [--folder DIR] [--out history.jsonl]

A writer adds, replaces and deletes documents, by their ids and by a filter, and updates their metadata. It says each
operation after its commit; it is killed at a moment drawn by chance, within about ten operations, in half of the turns
while this process has a handle open and opens and closes others beside it. The collection must then hold what was
acknowledged, or that and the one operation that was under way: the same documents with the same metadata, the same
answers of vector search as brute force over the stored vectors, the same matrix, and a check without problems. Exit
code 1 where something differed.

With --migrate the writer also fills a second space, some passages at a time, and switches between both. Then every
passage must have its vector in the space that is active, and no wrong one in the other.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import multiprocessing
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from omnivec.store import matrix
from omnivec.store.indexes.exact import ExactIndex
from omnivec.store.records import ACTIVE, FILLING, Document, Passage, SpaceRecord
from omnivec.store.sqlite import Catalogue
from omnivec.types import Floats

DIM, NAMES, PARTS, BEST = 16, 120, 25, 50
GROUPS = 7
"""Documents are in groups by their seeds; a filter deletes one group."""
MESSAGES = 20
"""A writer is killed in the operation that follows fewer messages than these; each operation has two."""

CONTEXT = multiprocessing.get_context("forkserver")
"""Writers are forked from a process that has imported what they need: a turn is 0.2 s shorter than with a new one."""


SPACES = ("text", "text-2")
"""The second one is filled with --migrate; its vectors are those of the first with the opposite signs."""


State = tuple[int, int | None]
"""The seed of a document's content, and the mark of its last update, None if there was none."""


def write(folder: Path, seed: int, said: Connection, migrate: bool = False) -> None:
    """The writer, which does not end by itself: it says each operation before and after."""
    chance = random.Random(seed)
    with Catalogue.open(folder, create=False) as catalogue:
        for number in range(1_000_000):
            operation = drawn(chance, seed * 1_000_000 + number, migrate)
            said.send({"begin": operation})
            apply(catalogue, operation)
            said.send({"done": operation})


def messages(said: Connection) -> Iterator[dict[str, Any]]:
    """What a writer said, to its end; what it was saying when it was killed is left out."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            yield said.recv()


def drawn(chance: random.Random, number: int, migrate: bool = False) -> dict[str, Any]:
    """An operation: documents to add or replace, each with the seed of its vectors, to update or to delete.

    With `migrate`, two of three are a step of a migration.
    """
    if migrate and chance.random() < 0.67:
        return {"fill": chance.randrange(1, 2000)} if chance.random() < 0.8 else {"switch": True}
    names = [f"d{chance.randrange(NAMES)}" for _ in range(chance.randrange(1, 6))]
    kind = chance.random()
    if kind < 0.2:
        return {"delete": names}
    if kind < 0.25:
        return {"group": chance.randrange(GROUPS)}
    if kind < 0.6:
        return {"update": names, "mark": number}
    return {"write": dict.fromkeys(names, number), "remove": [f"d{chance.randrange(NAMES)}"]}


def vectors_of(name: str, seed: int, space: str) -> Floats:
    """The vectors of a document's passages in a space."""
    vectors: Floats = (
        np.random.default_rng(abs(hash((int(name[1:]), seed)))).standard_normal((PARTS, DIM)).astype("f4")
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors if space == SPACES[0] else -vectors


def vector_of(text: str, space: str) -> Floats:
    """The vector (1, DIM) of a passage, by its text."""
    name, seed, part = text.split()
    return vectors_of(name, int(seed), space)[int(part)][None]


def active_of(catalogue: Catalogue) -> tuple[str, str]:
    """The space that is searched, and the other one."""
    [active] = [name for name, one in catalogue.spaces().items() if one.state == ACTIVE]
    return active, SPACES[SPACES[0] == active]


def made(name: str, seed: int, space: str) -> Document:
    """A document of several passages, the same for the same seed."""
    vectors = vectors_of(name, seed, space)
    passages = tuple(
        Passage(0, len(text), 1, text, "text", {space: vectors[i : i + 1]})
        for i, text in enumerate([f"{name} {seed} {i}" for i in range(PARTS)])
    )
    metadata = {"seed": seed, "group": seed % GROUPS}
    return Document(name, "text", "kills", str(seed).encode(), None, None, 0, 0, 0, metadata, 0, passages)


def apply(catalogue: Catalogue, operation: Mapping[str, Any]) -> None:
    """Does an operation; when it returns, it is acknowledged."""
    if "delete" in operation:
        catalogue.delete(operation["delete"])
        return
    if "group" in operation:
        catalogue.delete(None, {"group": operation["group"]})
        return
    if "update" in operation:
        mark = operation["mark"]
        given = {"first": mark, "long": "x" * (mark % 3000), "last": mark}
        catalogue.update(dict.fromkeys(operation["update"], given))
        return
    active, other = active_of(catalogue)
    if "fill" in operation:
        waiting = catalogue.waiting(active, other, limit=operation["fill"])
        catalogue.add_vectors(other, {one.key: vector_of(one.text, other) for one in waiting}, {})
        return
    if "switch" in operation:
        catalogue.switch(active, other)
        return
    documents = [made(name, seed, active) for name, seed in operation["write"].items()]
    catalogue.write(documents, [name for name in operation["remove"] if name not in operation["write"]])


def after(state: Mapping[str, State], operation: Mapping[str, Any]) -> dict[str, State]:
    """The model: name of a document -> the seed of its content and the mark of its last update, after an operation."""
    gone = {*operation.get("delete", ()), *operation.get("remove", ())}
    gone |= {name for name, (seed, _) in state.items() if seed % GROUPS == operation.get("group")}
    changed = dict(state)
    if set(operation.get("update", ())) <= set(state):  # an unknown id, and nothing is updated
        changed |= {name: (state[name][0], operation["mark"]) for name in operation.get("update", ())}
    written = {name: (seed, None) for name, seed in operation.get("write", {}).items()}
    return {name: one for name, one in changed.items() if name not in gone} | written


def state_of(catalogue: Catalogue) -> dict[str, State]:
    """What is there; half an update has no mark that any operation has."""
    marks = {}
    for entry in catalogue.documents():
        seed, mark = entry.metadata["seed"], entry.metadata.get("first")
        whole = {"first": mark, "long": "x" * (mark % 3000), "last": mark} if mark is not None else {}
        same = entry.metadata == {"seed": seed, "group": seed % GROUPS, **whole}
        marks[entry.id] = (seed, mark if same else -1)
    return marks


def problems(catalogue: Catalogue, possible: list[dict[str, State]]) -> tuple[dict[str, State], list[str]]:
    """What is there, and how it differs from all that it may be."""
    with catalogue.snapshot():
        there = state_of(catalogue)
        wrong = [] if there in possible else [f"documents {_difference(there, possible[0])}"]
        active, other = active_of(catalogue)
        keys, vectors = catalogue.vectors(active)
        passages = catalogue.passages(keys)
        for space in (active, other) if other in catalogue.spaces() else ():
            filled, stored = catalogue.vectors(space)
            owned = catalogue.passages(filled)
            for key, vector in zip(filled.tolist(), stored, strict=True):
                if not np.array_equal(vector, vector_of(owned[key].text, space)[0]):
                    wrong.append(f"passage {key} has another vector in {space}")
        texts = sorted(f"{name} {seed} {i}" for name, (seed, _) in there.items() for i in range(PARTS))
        if sorted(one.text for one in passages.values()) != texts:
            wrong.append("passages of other documents")
        loaded = matrix.load(catalogue, catalogue.folder, active)
        if not (np.array_equal(loaded.keys, keys) and np.array_equal(loaded.vectors, vectors)):
            wrong.append("the matrix is not what is stored")
        query = np.random.default_rng(len(keys)).standard_normal((1, DIM)).astype("f4")
        if len(keys):
            found, _ = ExactIndex(DIM, "cosine", loaded.keys, loaded.vectors).search(query, BEST)
            exact = (
                vectors.astype("f8") @ query[0].astype("f8") / np.linalg.norm(vectors.astype("f8"), axis=1)
            )
            best = keys[np.lexsort((keys, -exact.astype("f4")))][:BEST]
            exact_of = dict(zip(keys.tolist(), exact.tolist(), strict=True))
            for rank, (a, b) in enumerate(zip(found[0].tolist(), best.tolist(), strict=False), 1):
                if a != b and abs(exact_of.get(a, -9) - exact_of[b]) > 1e-6:
                    wrong.append(f"rank {rank}: passage {a} in place of {b}")
    return there, wrong + catalogue.check() + matrix.problems(catalogue, catalogue.folder)


def _difference(there: Mapping[str, State], wanted: Mapping[str, State]) -> dict[str, Any]:
    return {
        name: (wanted.get(name), there.get(name))
        for name in {**there, **wanted}
        if there.get(name) != wanted.get(name)
    }


def killed(
    folder: Path, seed: int, state: dict[str, State], chance: random.Random, migrate: bool = False
) -> tuple[dict[str, Any], dict[str, State]]:
    """One turn: a writer that is killed, and what is there afterwards."""
    beside = Catalogue.open(folder, create=False) if chance.random() < 0.5 else None
    said_here, said_there = CONTEXT.Pipe(duplex=False)
    writer = CONTEXT.Process(target=write, args=(folder, seed, said_there, migrate), daemon=True)
    writer.start()
    said_there.close()
    coming, said, begun = messages(said_here), [], time.monotonic()
    for message in itertools.islice(coming, chance.randrange(1, MESSAGES)):
        said.append(message)
        begun = begun if len(said) > 1 else time.monotonic()
        if beside is not None:  # opens, reads and closes in this process, while another handle is open
            beside.counts()
            Catalogue.open(folder, create=False, readonly=chance.random() < 0.5).close()
    pace = (time.monotonic() - begun) / max(len(said) - 1, 1)
    time.sleep(chance.uniform(0, max(2 * pace, 0.01)))  # some moment of this operation or of the next one
    writer.kill()
    writer.join()
    said += coming
    said_here.close()
    for line in said:
        state = after(state, line["done"]) if "done" in line else state
    under_way = said[-1:] if said and "begin" in said[-1] else []
    if beside is not None:
        operation = drawn(chance, seed * 1_000_000 + 999_999)
        there = state_of(beside)
        apply(beside, operation)
        possible = [after(one, operation) for one in (state, *(after(state, x["begin"]) for x in under_way))]
        if chance.random() < 0.5:
            beside.close()
    else:
        there, possible = {}, [state, *(after(state, line["begin"]) for line in under_way)]
    with Catalogue.open(folder, create=False) as catalogue:
        found, wrong = problems(catalogue, possible)
    if writer.exitcode != -signal.SIGKILL:
        wrong.append(f"the writer ended by itself with {writer.exitcode}")
    return {"seed": seed, "said": said, "beside": there, "found": found, "wrong": wrong}, found


def main() -> int:
    """Runs the kills and says how many left a difference."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--migrate", action="store_true", help="also steps of a migration to another model")
    parser.add_argument("--folder", type=Path, help="kept afterwards; a temporary one by default")
    parser.add_argument("--out", type=Path, help="the history, one line of JSON for each kill")
    options = parser.parse_args()
    CONTEXT.set_forkserver_preload([Path(__file__).stem])
    chance = random.Random(options.seed)
    failures = operations = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.folder or Path(scratch)) / "kills.omni"
        with Catalogue.open(folder, create=True) as catalogue:
            catalogue.put_space(SpaceRecord("text", "kills", DIM, "cosine", {}, {}, ()))
            if options.migrate:
                catalogue.put_space(
                    SpaceRecord(SPACES[1], "kills again", DIM, "cosine", {}, {}, (), state=FILLING)
                )
        state: dict[str, State] = {}
        out = options.out.open("w") if options.out else None
        for turn in range(1, options.kills + 1):
            record, state = killed(folder, options.seed * 100_000 + turn, state, chance, options.migrate)
            operations += sum("done" in line for line in record["said"])
            if out is not None:
                out.write(json.dumps(record) + "\n")
                out.flush()
            if record["wrong"]:
                failures += 1
                print(f"kill {turn}: {'; '.join(record['wrong'][:3])}", file=sys.stderr, flush=True)
        if out is not None:
            out.close()
    print(f"{options.kills} kills, {operations} operations acknowledged, {failures} kills with a difference")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
