"""What is given as items has one meaning in every function: one item, several, or refused in one line."""

from __future__ import annotations

import array
import collections
import enum
import io
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import CLIPConfig, CLIPModel

import checkpoints
import omnivec
import small_models as small
from omnivec.errors import ItemErrors, OmnivecError, UsageError
from omnivec.inputs.items import is_one, paths, several, texts
from omnivec.tasks.classify import classify
from omnivec.testing import check_close
from omnivec.validation import arguments

TEXTS = ["the quick brown fox", "a lazy dog", "an engine"]


class Column:
    """A column as pandas and polars have it: values in order, and more than a list can."""

    dtype, shape = "str", (3,)

    def __iter__(self) -> Iterator[str]:
        return iter(TEXTS)


class DataFrame:
    """A table as pandas and polars have it: iteration gives its columns' names."""

    columns = ("text", "label")

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def to_dict(self, orient: str) -> list[dict[str, str]]:
        return []


LONE: list[Any] = ["abc", np.str_("abc"), np.array("abc"), np.array("abc", object), b"abc", Path("abc")]
LONE += [Image.new("RGB", (2, 2)), np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.uint8)]
SEVERAL: dict[str, Any] = {
    "list": TEXTS,
    "tuple": tuple(TEXTS),
    "array of str": np.array(TEXTS),
    "array of objects": np.array(TEXTS, object),
    "deque": collections.deque(TEXTS),
    "names of a dict": dict.fromkeys(TEXTS).keys(),
    "values of a dict": dict(enumerate(TEXTS)).values(),
    "column": Column(),
    "arrow array": pa.array(TEXTS),
    "arrow chunks": pa.chunked_array([TEXTS[:1], TEXTS[1:]]),
}
NONE: dict[str, tuple[Any, str]] = {
    "None": (None, "None is not an item: give a str"),
    "a number": (5, r"5, an int is not an item"),
    "a bool": (True, "True is not an item"),
    "NaN": (float("nan"), "nan, a missing value is not an item"),
    "NumPy's number": (np.float32(2), r"is not an item"),
    "characters": (collections.UserString("abc"), r"read by its characters or numbers: give str\(text\)"),
    "bytes that change": (bytearray(b"abc"), r"a bytearray would be read by its characters or numbers"),
    "a view of bytes": (memoryview(b"abc"), r"a memoryview would be read by"),
    "an array of characters": (array.array("u", "abc"), r"an array would be read by"),
    "a decimal": (Decimal(1), r"is not an item"),
    "NaT": (np.datetime64("NaT"), "a missing value"),
    "a float image": (
        np.zeros((4, 4, 3)),
        r"a float64 array of shape \(4, 4, 3\) contains no items: give an image as",
    ),
    "a vector": (np.zeros(8, np.float32), r"a float32 array of shape \(8,\)"),
    "integers": (np.arange(3), "contains no items"),
    "bytes in a row": (np.arange(3, dtype=np.uint8), "contains no items"),
    "five axes": (np.zeros((1, 1, 2, 2, 3), np.uint8), "contains no items"),
    "a table of str": (np.array([TEXTS]), "give one of its columns"),
    "records": (np.zeros(2, [("text", "U3")]), "give one of its columns"),
    "a tensor": (torch.zeros(2, 3), r"a Tensor of shape \(2, 3\) contains numbers"),
    "a DataFrame": (DataFrame(), r"a DataFrame is a table: give one of its columns, such as table\['text'\]"),
    "an arrow table": (pa.table({"text": TEXTS}), "a Table is a table: give one of its columns"),
    "a dict": ({"a": 1}, r"a dict has keys and values: give list\(d.values\(\)\)"),
    "a counter": (collections.Counter("ab"), r"a Counter has keys and values"),
    "a set": ({"a"}, r"a set has no order, .* give sorted\(items\)"),
    "a frozenset": (frozenset("a"), "a frozenset has no order"),
    "an open file": (io.StringIO("a\nb"), "an open file may be one item or many"),
    "open bytes": (io.BytesIO(b"a"), "an open file may be one item or many"),
}


@pytest.mark.parametrize("one", LONE, ids=lambda one: type(one).__name__)
def test_a_lone_item_is_one_item(one: Any) -> None:
    assert is_one(one)
    [found] = several(one)
    assert found is one or found == "abc"


@pytest.mark.parametrize("name", SEVERAL)
def test_a_sequence_is_its_items_in_order(name: str, text_model: omnivec.Embedder) -> None:
    values = SEVERAL[name]
    assert not is_one(values) and list(several(values)) == TEXTS
    check_close(text_model.encode(values), text_model.encode(TEXTS), name)
    assert text_model.run(values).kept.tolist() == [0, 1, 2]


def test_images_in_one_array_are_several(image_model: omnivec.Embedder) -> None:
    images = np.random.default_rng(1).integers(0, 256, (2, 9, 7, 3), np.uint8)
    together = image_model.encode(images)
    assert together.shape == (2, image_model.dim)
    for image, vector in zip(images, together, strict=True):
        for alone in (image_model.encode(image), image_model.run(image).vectors[0]):
            check_close(alone, vector, "a lone image")
        [window] = image_model.stream(image)
        check_close(window.vectors[0], vector, "streamed")
    check_close(
        image_model.encode(images[0, :, :, 0])[None], image_model.encode([images[0, :, :, 0]]), "grey"
    )


@pytest.mark.parametrize("name", NONE)
def test_what_holds_no_items_is_refused_with_the_way_out(
    name: str, text_model: omnivec.Embedder, table: omnivec.Embedder, tmp_path: Path
) -> None:
    value, why = NONE[name]
    calls: list[Callable[[Any], Any]] = [
        text_model.encode,
        text_model.encode_query,
        text_model.encode_document,
    ]
    calls += [
        text_model.run,
        text_model.stream,
        table.run,
        lambda items: classify(text_model, items, ["a", "b"]),
    ]
    calls += [lambda items: text_model.precision_loss("float32", items)]
    with omnivec.Collection(tmp_path / "c", model=text_model) as notes:
        calls += [
            notes.add,
            lambda items: notes.add(TEXTS, ids=items),
            lambda labels: classify(table, "a", labels),
        ]
        for call in calls if value is not None else calls[:-2]:
            with pytest.raises(UsageError, match=why) as raised:
                call(value)
            assert "\n" not in str(raised.value)
        assert len(notes) == 0


def test_one_text_is_one_item_everywhere(text_model: omnivec.Embedder, table: omnivec.Embedder) -> None:
    vector = text_model.encode("abc")
    assert len(text_model.run("abc")) == 1 and len(text_model.run(np.str_("abc"))) == 1
    check_close(text_model.run("abc").vectors[0], vector, "run")
    [window] = text_model.stream("abc")
    check_close(window.vectors[0], vector, "stream")
    with pytest.raises(UsageError, match="1 different texts"):
        text_model.precision_loss("float32", "abc")
    assert classify(text_model, "abc", ["x", "y"]).probabilities.shape == (1, 2)
    assert len(table.run("fox")) == 1


@pytest.mark.parametrize("bad", [None, float("nan"), 7, np.float32("nan"), ["nested"], {"a": 1}, object()])
def test_what_is_no_item_fails_by_its_place(bad: Any, text_model: omnivec.Embedder, tmp_path: Path) -> None:
    items = ["a"] * 20 + [bad] + ["b"] * 3
    encoded = text_model.run(iter(items))
    assert list(encoded.failures) == [20] and len(encoded) == 23
    [*windows] = text_model.stream(iter(items))
    assert [i for window in windows for i in window.failures] == [20] and sum(map(len, windows)) == 23
    with pytest.raises(ItemErrors, match=r"1 of 24 items failed \(item 20: .* is not a text: give a str"):
        text_model.encode(items)
    assert list(classify(text_model, items, ["x", "y"]).failures) == [20]
    with omnivec.Collection(tmp_path / "c", model=text_model) as notes:
        with pytest.raises(ItemErrors, match=r"item 20: .* The others are in the collection") as raised:
            notes.add(items)
        assert (
            list(raised.value.failures) == [20] and len(notes) == 2 and "model.run" not in str(raised.value)
        )
    with pytest.raises(UsageError, match="text 20: "):
        text_model.precision_loss("float32", items)


def test_an_exception_of_the_users_iterator_comes_through(
    text_model: omnivec.Embedder, tmp_path: Path
) -> None:
    class Own(Exception):
        pass

    def broken() -> Iterator[str]:
        yield "a"
        raise Own("mine")

    with omnivec.Collection(tmp_path / "c", model=text_model) as notes:
        for call in (
            text_model.encode,
            text_model.run,
            notes.add,
            lambda items: list(text_model.stream(items)),
        ):
            with pytest.raises(Own, match="mine"):
                call(broken())


def test_a_streamed_iterator_is_not_read_before_its_time(text_model: omnivec.Embedder) -> None:
    taken = []

    def items() -> Iterator[str]:
        for i in range(3):
            taken.append(i)
            yield "a"

    windows = text_model.stream(items())
    assert not taken
    assert sum(map(len, windows)) == 3


def test_names_and_paths_by_their_place() -> None:
    assert texts("a", "ids") == texts(["a"], "ids") == texts(np.array(["a"]), "ids") == ["a"]
    assert type(texts([np.str_("a")], "ids")[0]) is str
    with pytest.raises(UsageError, match=r"label 1 is None: give a str"):
        texts(["a", None], "labels")
    assert list(paths("a/b")) == list(paths([Path("a/b")])) == [Path("a/b")]
    for bad in ([Path("a"), None], ["a", ""], ["a", b"b"], ["a", np.zeros((2, 2))], ["a", Column()]):
        with pytest.raises(UsageError, match=r"path 1 is "):
            list(paths(bad))


OPTIONS: list[tuple[str, Any]] = [
    ("prompt", "a picture of "),
    ("prompt_name", "query"),
    ("truncate", "error"),
    ("truncate", "tail"),
    ("chunk", "pool"),
]


@pytest.mark.parametrize(("name", "value"), OPTIONS)
def test_options_of_texts_are_refused_by_a_model_of_images(
    name: str, value: Any, image_model: omnivec.Embedder
) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    for call in (
        image_model.encode,
        image_model.encode_query,
        image_model.encode_document,
        image_model.run,
        image_model.stream,
    ):
        with pytest.raises(
            UsageError, match=f"{name}=.* is an option of texts, but this model reads only images"
        ):
            call(image, **{name: value})
    assert image_model.encode(image, prompt="").shape == (image_model.dim,)


def test_options_of_texts_concern_the_texts_of_a_model_of_both(tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}
    words = {"vocab_size": checkpoints.wordpiece(tmp_path), "max_position_embeddings": 24, "eos_token_id": 3}
    config = CLIPConfig(
        text_config=sizes | words,
        vision_config=sizes | {"image_size": 32, "patch_size": 16},
        projection_dim=16,
    )
    CLIPModel(config).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(small.PREPARED)
    model = omnivec.load(tmp_path)
    image = np.zeros((8, 8, 3), np.uint8)
    both = model.encode(["a dog", image], prompt="a photo of ")
    check_close(both[0], model.encode("a photo of a dog"), "the text")
    check_close(both[1], model.encode(image), "the image")
    for name, value in (("prompt", "a photo of "), ("truncate", "error"), ("chunk", "pool")):
        with pytest.raises(UsageError, match=f"{name}=.* is an option of texts, but no item is a text"):
            model.run([image, image], **{name: value})  # type: ignore[arg-type]
    found = model.run(["a dog", None, image])
    assert found.failures.keys() == {1}
    assert found.failures[1].startswith(
        "None is not an item: give a str, an image as PIL or uint8 (h, w, 3) has it, "
    )


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"batch_size": "x"}, "batch_size='x': a whole number, at least 1"),
        ({"batch_size": 2.0}, r"batch_size=2.0: a whole number"),
        ({"batch_size": True}, "batch_size=True: a whole number"),
        ({"batch_size": 0}, "batch_size=0: at least 1"),
        ({"dim": "x"}, "dim='x': a whole number, 1 to 32; this model's vectors have 32 components"),
        ({"dim": 33}, "dim=33: 1 to 32"),
        ({"normalize_embeddings": "no"}, "normalize_embeddings='no': True or False"),
        ({"normalize_embeddings": 1}, "normalize_embeddings=1: True or False"),
        ({"show_progress_bar": "yes"}, "show_progress_bar='yes': True or False"),
        ({"prompt": 3}, "prompt=3: must be a str"),
        ({"prompt": np.zeros(3)}, "prompt=array.*: must be a str"),
        ({"prompt_name": ["query"]}, r"prompt_name=\['query'\] is not a prompt of this model"),
        ({"truncate": "middle"}, "truncate='middle' is none of"),
        ({"truncate": True}, "truncate=True is none of"),
        ({"chunk": ["pool"]}, r"chunk=\['pool'\] is none of"),
        ({"convert_to_tensor": True}, "vectors are NumPy arrays: torch.from_numpy"),
        ({"convert_to_numpy": False}, "vectors are NumPy arrays: torch.from_numpy"),
        ({"convert_to_numpy": "yes"}, "convert_to_numpy='yes': True or False"),
    ],
)
def test_options_of_another_type_are_one_line(options: Any, why: str, text_model: omnivec.Embedder) -> None:
    for call in (text_model.encode, text_model.encode_query, text_model.encode_document):
        with pytest.raises(UsageError, match=why) as raised:
            call("a", **options)
        assert "\n" not in str(raised.value)


def test_numpys_scalars_are_options_like_pythons(text_model: omnivec.Embedder) -> None:
    found = text_model.encode(
        TEXTS,
        batch_size=np.int64(2),
        dim=np.int32(8),
        normalize_embeddings=np.True_,
        show_progress_bar=np.False_,
    )
    check_close(found, text_model.encode(TEXTS, dim=8, normalize_embeddings=True), "as Python's")
    assert text_model.encode("a", convert_to_numpy=True, convert_to_tensor=False).shape == (32,)


def test_questions_and_documents_take_the_options_of_encode(text_model: omnivec.Embedder) -> None:
    for call in (text_model.encode_query, text_model.encode_document):
        options: dict[str, Any] = {"normalize_embeddings": True, "dim": 8, "batch_size": 1, "prompt": "a "}
        check_close(call(TEXTS, **options), text_model.encode(TEXTS, **options), "the same options")


def test_an_embedder_compares_by_its_own_metric(text_model: omnivec.Embedder) -> None:
    vectors = text_model.encode(TEXTS)
    expected = omnivec.similarity(vectors, vectors, text_model.metric)
    assert np.array_equal(text_model.similarity(vectors, vectors), expected)
    check_close(text_model.similarity_pairwise(vectors, vectors), expected.diagonal(), "pairs")
    assert repr(text_model).startswith("<Embedder '") and repr(text_model).endswith(
        ": text, 32 components, cosine>"
    )


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.binary(max_size=9)
)
HASHABLE = st.none() | st.booleans() | st.integers() | st.text(max_size=4)
ARRAYS = st.sampled_from(["U3", "f4", "i8", "u1", "O", "M8[s]", "S2", "?"]).flatmap(
    lambda kind: st.lists(st.integers(0, 3), max_size=4).map(lambda shape: np.zeros(shape, kind))
)
ANYTHING = st.recursive(
    SCALARS | ARRAYS | st.sets(HASHABLE, max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(HASHABLE, inner, max_size=2)
    ),
    max_leaves=6,
)


@settings(max_examples=120, deadline=None)
@given(ANYTHING)
def test_any_value_gives_vectors_of_its_texts_or_an_error_of_one_line(
    text_model: omnivec.Embedder, image_model: omnivec.Embedder, value: Any
) -> None:
    for call in (text_model.encode, image_model.encode, text_model.run):
        try:
            found = call(value)
        except OmnivecError as error:
            assert len(str(error).splitlines()) == 1
            continue
        vectors = found if isinstance(found, np.ndarray) else found.vectors
        assert vectors.shape[-1] in (text_model.dim, image_model.dim) and np.isfinite(vectors).all()
        if isinstance(value, list | tuple) and call == text_model.encode:
            assert len(vectors) == len(value) and all(isinstance(one, str) for one in value)


@pytest.fixture(scope="module")
def notes(
    text_model: omnivec.Embedder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[omnivec.Collection]:
    with omnivec.Collection(tmp_path_factory.mktemp("any") / "notes.omni", model=text_model) as opened:
        yield opened


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ANYTHING)
def test_any_value_is_added_or_an_error_of_one_line(notes: omnivec.Collection, value: Any) -> None:
    try:
        added = notes.add(value)
    except OmnivecError as error:
        assert len(str(error).splitlines()) == 1
        return
    texts = [value] if is_one(value) else list(several(value))
    assert added.kept == list(range(len(texts))) and added.failures == {}
    assert all(name in notes for name in added.ids)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ANYTHING, ANYTHING)
def test_any_ids_and_metadata_are_stored_or_an_error_of_one_line(
    notes: omnivec.Collection, ids: Any, metadata: Any
) -> None:
    try:
        added = notes.add(["a text", "another"], ids=ids, metadata=metadata)
    except OmnivecError as error:
        assert len(str(error).splitlines()) == 1
        return
    assert [entry.id for entry in notes.get(added.ids)] == added.ids


class Named(str, enum.Enum):  # noqa: UP042  str() of a StrEnum would be its text
    """Texts with names: str() of a member is its name."""

    FOX = "the quick brown fox"


def test_an_enum_of_texts_is_its_text_everywhere() -> None:
    assert texts(Named.FOX, "ids") == [TEXTS[0]] and list(paths(Named.FOX)) == [Path(TEXTS[0])]
    assert (
        arguments.path("folder", Named.FOX) == Path(TEXTS[0]) and arguments.text("a", Named.FOX) == TEXTS[0]
    )


def test_what_says_only_when_asked_that_it_has_no_items_is_one() -> None:
    class Methods:
        def __iter__(self) -> Iterator[str]:
            raise TypeError("'Methods' object is not iterable")  # as pandas' Series.str

    assert is_one(Methods())


def test_a_table_takes_keys_from_arrays_of_no_axes() -> None:
    table = omnivec.train("word2vec", ["a b c"] * 9, dim=4, epochs=1, min_count=1)
    assert table[np.array("a")].shape == (4,) and table.spelled(np.array("A")) == "a"
    both = table.similarity(["a", "b"], "c")
    for keys in (np.array(["a", "b"]), np.array(["a", "b"], object), pa.array(["a", "b"])):
        assert np.array_equal(table.similarity(keys, "c"), both)
    assert np.array_equal(table.similarity(table[["a", "b"]], "c"), both)
