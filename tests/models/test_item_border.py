"""Whatever goes wrong with one item costs that item: each exception, at each step, of each kind of model."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers import ViTConfig, ViTModel

import checkpoints
import omnivec
import small_models
from omnivec.errors import MissingExtra, UsageError
from omnivec.inputs.image.image import ImagePreparer
from omnivec.inputs.image.pixels import ImageSource
from omnivec.inputs.text.text import TextPreparer
from omnivec.inputs.text.tokenizer import Tokenizer
from omnivec.models import batching
from omnivec.models.embedder import Embedder
from omnivec.models.joint import JointEmbedder
from omnivec.models.joint_folder import Joint, Side
from omnivec.models.network import Network
from omnivec.models.table import TableModel
from omnivec.ops import openvino, process
from omnivec.tables.io import write_table
from omnivec.tables.record import Subwords, Table
from omnivec.types import Encoded, Prepared
from patience import PATIENCE


class Panic(BaseException):
    """As pyo3's PanicException: an error of a library that is no Exception."""


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


RAISED = [
    MemoryError(),
    RuntimeError("two\nlines"),
    ValueError("a value"),
    OverflowError("too large"),
    RecursionError("too deep"),
    ZeroDivisionError("a bug"),
    KeyError("a key"),
    TypeError("a type"),
    OSError(errno.EMFILE, "Too many open files", "/some/file"),
    Image.DecompressionBombError("a bomb"),
    Panic("it panicked"),
    Unspeakable(),
]
PASSING = [
    KeyboardInterrupt(),
    SystemExit(3),
    GeneratorExit(),
    UsageError("a call"),
    MissingExtra("an extra"),
]
STEPS = ["decode", "key", "size", "prepare", "compute", "vectors"]
BAD, GOOD = 13, [1, 2, 13, 4, 5]


class Raising:
    """Numbers as items: a vector is (value, value); a step raises at the bad one."""

    dim, unit, budget, chunk, streams, nothing = 2, "units", 64, 1024, 2, "nothing"

    def __init__(self, step: str, error: BaseException) -> None:
        self.step, self.error = step, error

    def _at(self, step: str, values: Sequence[int]) -> None:
        if step == self.step and BAD in values:
            raise self.error

    def decode(self, item: int) -> int:
        self._at("decode", [item])
        return item

    def key(self, decoded: int) -> int:
        self._at("key", [decoded])
        return decoded

    def size(self, decoded: int) -> int:
        self._at("size", [decoded])
        return decoded

    def prepare(self, decoded: Sequence[int], options: Any) -> list[list[Prepared]]:
        self._at("prepare", decoded)
        return [[Prepared({"x": np.array([d])}, 1, d, 0)] for d in decoded]

    def compute(self, rows: Sequence[Prepared], alone: bool) -> np.ndarray:
        values = [int(row.arrays["x"][0]) for row in rows]
        self._at("compute", values)
        return np.array([values, values], np.float32).T

    def vectors(self, decoded: Sequence[int], options: Any) -> tuple[np.ndarray, np.ndarray]:
        self._at("vectors", decoded)
        return np.array([decoded, decoded], np.float32).T, np.array(decoded, np.int64)


def run(step: str, error: BaseException) -> Encoded:
    steps: Any = Raising(step, error)
    return batching.run_whole(GOOD, steps) if step == "vectors" else batching.run(GOOD, steps, steps)


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_any_exception_at_any_step_costs_the_item_alone(error: BaseException) -> None:
    for step in STEPS:
        check_alone(step, error)


def check_alone(step: str, error: BaseException) -> None:
    encoded = run(step, error)
    assert list(encoded.failures) == [2]
    assert encoded.kept.tolist() == [0, 1, 3, 4]
    assert encoded.vectors[:, 0].tolist() == [1, 2, 4, 5]
    why = encoded.failures[2]
    assert "\n" not in why
    said = {"MemoryError": "memory", "OSError": "ulimit -n"}.get(type(error).__name__, type(error).__name__)
    assert said in why


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
def test_what_ends_the_program_or_is_wrong_with_the_call_is_no_items(error: BaseException) -> None:
    for step in STEPS:
        with pytest.raises(type(error)):
            run(step, error)


def test_a_fault_of_ours_is_named_with_its_place() -> None:
    class Faulty(Raising):
        def decode(self, item: int) -> int:
            return 1 // (item - BAD) if item == BAD else item

    faulty: Any = Faulty("", Panic())
    encoded = batching.run(GOOD, faulty, faulty)
    assert encoded.failures.keys() == {2}
    assert "ZeroDivisionError" in encoded.failures[2]
    assert "batching.py line" in encoded.failures[2]


# Kind of model -> a text or picture that is marked, others that are not, and the steps that see them.
MARKED_TEXT, TEXTS = (
    "the quick brown fox jumps over the lazy dog again and again",
    ["a fox", "the dog", "a cat"],
)


def picture(value: int) -> np.ndarray:
    return np.full((40, 40, 3), value, np.uint8)


MARKED_PICTURE, PICTURES = picture(7), [picture(100), picture(200), picture(30)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Embedder]:
    place = tmp_path_factory.mktemp("kinds")
    checkpoints.bert(place / "texts", width=32, layers=1)
    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(place / "images")
    said = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}
    (place / "images" / "preprocessor_config.json").write_text(json.dumps(said))
    words = sorted({word for text in (MARKED_TEXT, *TEXTS) for word in text.split()})
    random = np.random.default_rng(0)
    table = random.normal(size=(len(words), 6)).astype(np.float32)
    write_table(place / "table", Table(words, table), "omnivec")
    grams = Subwords(random.normal(size=(50, 6)).astype(np.float32), 3, 4)
    write_table(place / "fasttext", Table(words, table, subwords=grams), "omnivec")
    loaded = {name: omnivec.load(place / name) for name in ("texts", "images", "table", "fasttext")}
    heads = {
        side: Side(
            side, ((random.normal(size=(4, loaded[side].dim)).astype(np.float32), np.zeros(4, np.float32)),)
        )
        for side in ("texts", "images")
    }
    loaded["joint"] = JointEmbedder.of(
        loaded["texts"], loaded["images"], Joint(heads["texts"], heads["images"], 10.0)
    )
    small_models.of_towers(place / "towers")
    return {**loaded, "towers": omnivec.load(place / "towers")}


# Kind -> the class of each step that its items go through, and its name there.
TEXT_STEPS = [
    (TextPreparer, "decode"),
    (TextPreparer, "key"),
    (TextPreparer, "size"),
    (TextPreparer, "prepare"),
]
IMAGE_STEPS = [(ImagePreparer, name) for name in ("decode", "key", "size", "prepare")]
TABLE_STEPS: list[tuple[type, str]] = [(TableModel, "decode"), (TableModel, "vectors")]
KINDS: dict[str, tuple[list[Any], list[tuple[type, str]]]] = {
    "texts": ([TEXTS[0], MARKED_TEXT, *TEXTS[1:]], [*TEXT_STEPS, (Network, "compute")]),
    "images": ([PICTURES[0], MARKED_PICTURE, *PICTURES[1:]], [*IMAGE_STEPS, (Network, "compute")]),
    "table": ([TEXTS[0], MARKED_TEXT, *TEXTS[1:]], TABLE_STEPS),
    "fasttext": ([TEXTS[0], MARKED_TEXT, *TEXTS[1:]], TABLE_STEPS),
    "towers": ([TEXTS[0], MARKED_TEXT, *PICTURES], [*TEXT_STEPS, (Network, "compute")]),
    "joint": ([TEXTS[0], MARKED_PICTURE, *PICTURES], [*IMAGE_STEPS, (Network, "compute")]),
}


def holds_marked(value: Any) -> bool:
    """Whether a step was given the marked item, as it is or as it was prepared."""
    if isinstance(value, list | tuple):
        return any(map(holds_marked, value))
    if isinstance(value, str):
        return value == MARKED_TEXT
    if isinstance(value, Prepared):
        arrays = value.arrays
        return len(arrays["ids"]) > 10 if "ids" in arrays else bool((arrays["pixels"] == 7).all())
    data = getattr(value, "data", value) if isinstance(value, ImageSource) else value
    return isinstance(data, np.ndarray) and bool((data == 7).all())


def breaking(step: Callable[..., Any], error: BaseException) -> Callable[..., Any]:
    def broken(self: Any, given: Any, *others: Any) -> Any:
        if holds_marked(given):
            raise error
        return step(self, given, *others)

    return broken


@pytest.mark.parametrize("kind", KINDS)
def test_in_every_kind_of_model_the_others_get_their_vectors(
    models: dict[str, Embedder], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, (items, steps) = models[kind], KINDS[kind]
    whole = model.run(items)
    assert not whole.failures
    for owner, name in steps:
        for error in (MemoryError(), TypeError("a type"), Panic("it panicked")):
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, breaking(getattr(owner, name), error))
                encoded = model.run(items)
            assert list(encoded.failures) == [1], (name, error)
            said = "memory" if isinstance(error, MemoryError) else type(error).__name__
            assert said in encoded.failures[1]
            others = whole.vectors[[0, *range(2, len(items))]]
            assert np.allclose(encoded.vectors, others, atol=1e-6)


class Loud(str):
    """A text that answers otherwise than by its characters."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __len__(self) -> int:
        raise RuntimeError("no length")

    def __hash__(self) -> int:
        raise RuntimeError("no hash")

    def encode(self, *options: Any) -> bytes:
        raise RuntimeError("no bytes")


class Hostile:
    """What is neither a text nor an image, and says nothing of itself."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__

    def __len__(self) -> int:
        raise MemoryError

    def __array__(self, *options: Any, **more: Any) -> Any:
        raise Panic("no array")

    @property
    def suffix(self) -> str:
        raise Panic("no suffix")


class HostilePath(type(Path())):  # type: ignore[misc]
    @property
    def suffix(self) -> str:
        raise Panic("no suffix")

    def stat(self, **options: Any) -> Any:
        raise Panic("no status")


def test_objects_that_raise_at_every_question_cost_themselves(models: dict[str, Embedder]) -> None:
    hostile = [Hostile(), HostilePath("a.png"), "half \ud83d of a pair", None, 3.5]
    for kind, (items, _) in KINDS.items():
        encoded = models[kind].run([items[0], *hostile, items[2]])
        assert list(encoded.failures) == [1, 2, 3, 4, 5], kind
        assert all(why and "\n" not in why for why in encoded.failures.values())
        assert np.allclose(encoded.vectors, models[kind].run([items[0], items[2]]).vectors, atol=1e-6)


def test_a_subclass_of_str_is_its_characters(models: dict[str, Embedder]) -> None:
    for kind in ("texts", "table", "towers", "joint"):
        assert np.array_equal(models[kind].run([Loud("a fox")]).vectors, models[kind].run(["a fox"]).vectors)


LIMITED = """
import resource, sys
import numpy as np
import omnivec
from omnivec.ops.process import mapped
model = omnivec.load(sys.argv[1], threads=1)
model.run(["a fox"])
resource.setrlimit(resource.RLIMIT_AS, (mapped() + 400_000_000, resource.RLIM_INFINITY))
encoded = model.run(["a fox", "the fox " * 1_000_000, "the dog"])
print(list(encoded.failures), *encoded.failures.values())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much is mapped")
def test_a_text_too_long_for_the_memory_there_is_costs_itself_and_no_abort(tmp_path: Path) -> None:
    checkpoints.bert(tmp_path, width=32, layers=1)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[1] no memory to prepare it: the process has ")
    assert "the limit of its address space (ulimit -v)" in done.stdout


NO_ROOM = """
import resource, sys
import omnivec
from omnivec.ops import openvino, process
model = omnivec.load(sys.argv[1], threads=2)
model.run(["a fox"])
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
resource.setrlimit(resource.RLIMIT_AS, (process.mapped() + 2_000_000, hard))
for texts in (["the fox", "the dog"] * 40, ["a fox"]):
    encoded = model.run(texts)
    print(len(encoded.failures), encoded.failures.get(0))
resource.setrlimit(resource.RLIMIT_AS, (process.mapped() + 30_000_000, hard))
try:
    omnivec.load(sys.argv[1], threads=1)
except omnivec.OmnivecError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much is mapped")
def test_where_there_is_no_memory_at_all_it_is_said_and_nothing_aborts(tmp_path: Path) -> None:
    checkpoints.bert(tmp_path, width=32, layers=1)
    done = subprocess.run(
        [sys.executable, "-c", NO_ROOM, str(tmp_path)], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    many, one, compiled = done.stdout.splitlines()
    assert many.startswith("80 no memory to prepare it: ") and one.startswith("1 no memory to prepare it: ")
    assert "cannot be compiled: not enough memory: the process has " in compiled
    assert all("the limit of its address space (ulimit -v) is " in line for line in (many, one, compiled))


@pytest.mark.parametrize("said", ["std::bad_alloc", "can't alloc", "x.so: failed to map segment"])
def test_an_engine_that_got_no_memory_is_said_so(said: str) -> None:
    line = openvino._last_line(RuntimeError(f"Exception from src/x.cpp:1:\n{said}\n"))
    assert line.startswith("not enough memory") and line.endswith(f"({said})")
    assert openvino._last_line(RuntimeError("at src/x.cpp:1\nno such node")) == "no such node"


def test_a_ceiling_of_memory_holds_for_long_texts(models: dict[str, Embedder]) -> None:
    preparer = models["texts"].model.texts
    preparer.room.ceiling = process.resident() + 100_000_000
    try:
        encoded = models["texts"].run(["a fox", "the fox " * 500_000, "the dog"])
    finally:
        preparer.room.ceiling = None
    assert list(encoded.failures) == [1]
    assert "max_memory" in encoded.failures[1]


def test_many_long_texts_are_tokenised_a_few_at_a_time(
    models: dict[str, Embedder], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    ids = Tokenizer.ids

    def counted(self: Tokenizer, texts: Sequence[str], **options: Any) -> Any:
        sizes.append(sum(map(len, texts)))
        return ids(self, texts, **options)

    monkeypatch.setattr(Tokenizer, "ids", counted)
    texts = [f"{i} " + "the fox " * 60_000 for i in range(5)] + ["a fox"]
    encoded = models["texts"].run(texts)
    assert not encoded.failures
    assert max(sizes) <= 2**20 and sum(sizes) == sum(map(len, texts))


def test_zero_bytes_and_long_texts_are_texts(models: dict[str, Embedder]) -> None:
    long = "the fox " * 20_000
    encoded = models["texts"].run(["a fox", "a\0fox\0", long])
    assert not encoded.failures
    assert encoded.seen[2] + encoded.lost[2] == 40_000
