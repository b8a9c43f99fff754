"""Joint models through `omnivec.load`: an embedder of two models like any other, wherever one is taken."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from transformers import ViTConfig, ViTModel

import checkpoints
import omnivec
from omnivec import Collection
from omnivec.cli.embed import command as embed_command
from omnivec.cli.info import command as info_command
from omnivec.collection.identity import check_same, json_of
from omnivec.errors import ItemErrors, ModelError, UsageError
from omnivec.models.embedder import Embedder
from omnivec.models.joint import JointEmbedder
from omnivec.models.joint_folder import read_joint
from omnivec.tables.io import write_table
from omnivec.tables.record import Table
from omnivec.tasks.classify import Classifier, Rule
from omnivec.testing import check_close
from omnivec.training import train
from omnivec.validation.json_files import read_json, write_json
from omnivec.vectors.alignment import Projection
from omnivec.vectors.labels import zero_shot
from omnivec.weights import safetensors

SIZE = 32
COLOURS = {"red": (200, 30, 20), "green": (20, 180, 40), "blue": (30, 40, 210), "white": (240, 240, 235)}
TEXTS = [f"the {colour} fox {times} times" for times in "1234567890" for colour in COLOURS]


def picture(text: str) -> Image.Image:
    """A picture that goes with a text: its colour, and stripes as many as its number."""
    _, colour, _, number, _ = text.split()
    pixels = np.full((SIZE, SIZE, 3), COLOURS[colour], np.uint8)
    pixels[:: int(number) + 2] = 0
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of texts, one of images, and pictures with their captions."""
    place = tmp_path_factory.mktemp("parts")
    checkpoints.bert(place / "texts", seed=1, width=32, layers=1)
    config = ViTConfig(
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=SIZE,
        patch_size=8,
    )
    checkpoints.discriminate(ViTModel(config, add_pooling_layer=False), 0).save_pretrained(place / "images")
    said = {"image_processor_type": "ViTImageProcessor", "size": {"height": SIZE, "width": SIZE}}
    write_json(place / "images" / "preprocessor_config.json", said)
    (place / "photos").mkdir()
    lines = ["left,right"]
    for i, text in enumerate(TEXTS):
        picture(text).save(place / "photos" / f"{i}.png")
        lines.append(f"photos/{i}.png,{text}")
    (place / "pairs.csv").write_text("\n".join(lines))
    return {name: place / name for name in ("texts", "images", "photos", "pairs.csv")}


def aligned(parts: dict[str, Path], **options: Any) -> JointEmbedder:
    given: dict[str, Any] = {"left": parts["images"], "right": parts["texts"], "show_progress_bar": False}
    made = train("align", parts["pairs.csv"], **given | options)
    assert isinstance(made, JointEmbedder)
    return made


@pytest.fixture(scope="module")
def folder(parts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return aligned(parts, dim=16, strength=0.1).save(tmp_path_factory.mktemp("saved") / "joint")


def items(parts: dict[str, Path]) -> list[Any]:
    return [parts["photos"] / "3.png", TEXTS[7], picture(TEXTS[11]), TEXTS[3]]


@pytest.mark.parametrize("engine", ["openvino", "torch"])
@pytest.mark.parametrize("method", ["cca", "contrastive"])
def test_vectors_are_those_of_the_models_through_their_heads(
    parts: dict[str, Path], tmp_path: Path, method: str, engine: str
) -> None:
    made = aligned(parts, method=method, dim=16, epochs=2, hidden=24)
    saved = made.save(tmp_path / "joint")
    model = omnivec.load(saved, engine=engine)
    joint = read_joint(saved)
    texts, images = (omnivec.load(parts[name], engine=engine) for name in ("texts", "images"))
    photo, text, other, again = items(parts)
    left = Projection(joint.left.layers)(images.encode([photo, other]))
    right = Projection(joint.right.layers)(texts.encode([text, again]))
    expected = np.stack([left[0], right[0], left[1], right[1]])
    check_close(model.encode(items(parts)), expected, "loaded")
    check_close(made.encode(items(parts)), expected, "trained", 1e-4 if engine == "torch" else 1e-5)
    check_close(model.encode(photo), left[0], "one file")
    check_close(model.encode_query(text), right[0], "a question")
    streamed = np.concatenate([part.vectors for part in model.stream(iter(items(parts)))])
    check_close(streamed, expected, "streamed")
    check_close(model.encode(items(parts), dim=5), expected[:, :5] / unit(expected[:, :5]), "truncated")


def unit(vectors: np.ndarray) -> np.ndarray:
    return np.linalg.norm(vectors, axis=1, keepdims=True)


def test_it_is_an_embedder_like_any_other(parts: dict[str, Path], folder: Path) -> None:
    model = omnivec.load(folder)
    assert (model.modalities, model.dim, model.metric) == (("text", "image"), 16, "cosine")
    assert model.max_length == omnivec.load(parts["texts"]).max_length
    found = model.run([*items(parts), 3.5, parts["photos"] / "none.png"])
    assert found.kept.tolist() == [0, 1, 2, 3] and list(found.failures) == [4, 5]
    assert found.unit == "tokens and pixels" and (found.seen > 0).all()
    with pytest.raises(ItemErrors):
        model.encode(parts["photos"] / "none.png")
    json.dumps(model.card)
    assert set(model.card["sides"]) == {"left", "right"} and model.card["scale"] == model.scale
    assert model.card["sides"]["left"]["modalities"] == ["image"]
    assert "precision" in model.card["sides"]["left"]["reasons"]
    assert model.provenance["precision"] == "float32"
    with pytest.raises(ModelError, match=r"cannot be pickled: call omnivec\.load"):
        pickle.dumps(model)
    with pytest.raises(ModelError, match=r"use its .*\.left"):
        pickle.dumps(model.left)
    text = TEXTS[0]
    check_close(model.encode_spans(text, [(0, len(text))])[0], model.encode(text), "the whole text is a span")
    assert len(model.words(text).texts) == 5
    loss = model.precision_loss("int8", TEXTS)
    assert 0.9 < loss.cosine_mean < 1 and loss.bytes < loss.bytes_float32
    check_close(
        omnivec.load(folder, precision="int8").left.encode(items(parts)[0]),
        omnivec.load(folder).left.encode(items(parts)[0]),
        "int8",
        0.2,
    )


def test_what_it_finds_belongs_together(parts: dict[str, Path], folder: Path) -> None:
    model = omnivec.load(folder)
    scale, bias = model.encoder.card.logits
    assert bias is None and 1 < scale <= 100
    pictures = model.encode([picture(text) for text in TEXTS])
    found = zero_shot(pictures, model.encode(TEXTS), scale, bias)
    assert (found.argmax(1) == np.arange(len(TEXTS))).mean() > 0.5  # by chance 1 of 40
    classes = Classifier.of(model, TEXTS, templates=["{}"])
    assert classes.rules["image"] == Rule(scale, None, learned=True) and not classes.rules["text"].learned
    np.testing.assert_allclose(classes.run([picture(text) for text in TEXTS]).probabilities, found, atol=1e-5)


def test_saved_again_and_over_itself(parts: dict[str, Path], folder: Path, tmp_path: Path) -> None:
    model = omnivec.load(folder)
    expected = model.encode(items(parts))
    saved = model.save(tmp_path / "again")
    for _ in range(2):
        model = omnivec.load(saved)
        np.testing.assert_array_equal(model.encode(items(parts)), expected)
        assert model.identity == omnivec.load(folder).identity
        assert model.save(saved) == saved
    np.testing.assert_array_equal(model.encode(items(parts)), expected)  # its files were replaced
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again"]
    with pytest.raises(ModelError, match="is one side of a joint model"):
        model.left.save(tmp_path / "left")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x.txt").write_text("x")
    with pytest.raises(ModelError, match="is not empty and holds no model"):
        model.save(tmp_path / "mine")


def changed(folder: Path, to: Path, name: str) -> Path:
    shutil.copytree(folder, to)
    tensors = {
        k: v.float32().copy() for k, v in safetensors.read_safetensors(to / "heads.safetensors").items()
    }
    tensors[name].reshape(-1)[0] += 0.01
    safetensors.save(to / "heads.safetensors", tensors)
    return to


def test_its_identity_is_that_of_both_models_and_heads(
    parts: dict[str, Path], folder: Path, tmp_path: Path
) -> None:
    own = json_of(omnivec.load(folder).identity)
    check_same(own, json_of(omnivec.load(folder, precision="bfloat16").identity), "text")
    others = [changed(folder, tmp_path / name, name) for name in ("left.0.weight", "right.0.bias")]
    checkpoints.discriminate(model := ViTModel.from_pretrained(parts["images"], add_pooling_layer=False), 9)
    others.append(Path(shutil.copytree(folder, tmp_path / "images")))
    model.save_pretrained(others[-1] / "left")
    for other in others:
        with pytest.raises(omnivec.errors.IdentityError, match="differ"):
            check_same(own, json_of(omnivec.load(other).identity), "text")
    halved = Path(shutil.copytree(folder, tmp_path / "half"))
    stored = safetensors.read_safetensors(halved / "left" / "model.safetensors")
    half = {name: tensor.float32().astype(np.float16) for name, tensor in stored.items()}
    safetensors.save(halved / "left" / "model.safetensors", half)
    check_same(own, json_of(omnivec.load(halved).identity), "text")


def test_a_collection_keeps_and_finds_with_it(parts: dict[str, Path], folder: Path, tmp_path: Path) -> None:
    with Collection(tmp_path / "notes", model=folder) as notes:
        notes.add(["the red fox", "the quick dog"])
        assert notes.search("the red fox")[0].text == "the red fox"
        notes.add([parts["photos"] / f"{i}.png" for i in range(8)])
        found = notes.search(TEXTS[5], k=20)
        assert {hit.modality for hit in found} == {"text", "image"}
        pictures = [Path(hit.document).name for hit in found if hit.modality == "image"]
        assert len(pictures) == 8 and "5.png" in pictures[:3]
    with Collection(tmp_path / "notes") as notes:  # by the name that it has recorded
        assert notes.search("the quick dog")[0].text == "the quick dog"
    with pytest.raises(omnivec.errors.IdentityError):
        Collection(tmp_path / "notes", model=changed(folder, tmp_path / "other", "left.0.bias"))


def test_info_and_embed_show_both_parts(parts: dict[str, Path], folder: Path, tmp_path: Path) -> None:
    shown = CliRunner().invoke(info_command, [str(folder)], catch_exceptions=False).output
    assert "\nleft\n  name" in shown and "\nright\n  name" in shown and "method cca" in shown
    assert str(parts["images"]) in shown and "  modalities      image\n" in shown
    card = CliRunner().invoke(info_command, [str(folder), "--json"], catch_exceptions=False).output
    assert json.loads(card)["family"] == "joint"
    given = [str(parts["photos"] / "3.png"), "-m", str(folder), "-o", str(tmp_path / "v.npy")]
    assert (
        CliRunner().invoke(embed_command, given, catch_exceptions=False, standalone_mode=False).exit_code == 0
    )
    check_close(
        np.load(tmp_path / "v.npy")[0], omnivec.load(folder).encode(parts["photos"] / "3.png"), "embed"
    )


def test_two_models_of_one_modality_are_taken_side_by_side(parts: dict[str, Path], tmp_path: Path) -> None:
    checkpoints.bert(tmp_path / "other", seed=2, width=48, layers=1)
    pairs = [(text, text) for text in TEXTS]
    made = train("align", pairs, left=parts["texts"], right=tmp_path / "other", strength=0.1)
    model = omnivec.load(made.save(tmp_path / "joint"))
    assert isinstance(model, JointEmbedder) and model.modalities == ("text",)
    with pytest.raises(
        UsageError, match=r"both sides of the joint model read texts.* use \.left or \.right"
    ) as caught:
        model.encode("a text")
    assert "\n" not in str(caught.value)
    left, right = model.left.encode(TEXTS), model.right.encode(TEXTS)
    assert (
        omnivec.similarity(left, right).argmax(1) == np.arange(len(TEXTS))
    ).mean() > 0.5  # by chance 1 of 40
    assert type(model.left) is Embedder and model.left.identity != model.right.identity
    with Collection(tmp_path / "notes", model=model.left) as notes:
        notes.add(TEXTS[:4])
        assert notes.search(TEXTS[2])[0].text == TEXTS[2]


def test_a_table_and_a_model_that_was_cut_are_sides_too(parts: dict[str, Path], tmp_path: Path) -> None:
    words = sorted({word for text in TEXTS for word in text.split()})
    vectors = np.random.default_rng(0).standard_normal((len(words), 20)).astype(np.float32)
    write_table(tmp_path / "words", Table(keys=words, vectors=vectors), "omnivec")
    cut = omnivec.load(parts["images"], dim=24)
    made = aligned(parts, left=cut, right=tmp_path / "words", strength=0.1)
    model = omnivec.load(made.save(tmp_path / "joint"))
    table = omnivec.load(tmp_path / "words")
    joint = read_joint(tmp_path / "joint")
    check_close(model.encode(TEXTS), Projection(joint.right.layers)(table.encode(TEXTS)), "the table")
    photo = parts["photos"] / "0.png"
    check_close(
        model.encode(photo), Projection(joint.left.layers)(cut.encode([photo]))[0], "the first components"
    )
    with pytest.raises(UsageError, match="no network of this model reads texts"):
        model.words("red fox")
    assert made.identity == model.identity
    check_close(
        np.linalg.norm(model.encode([*TEXTS, photo], dim=4), axis=1), np.ones(len(TEXTS) + 1), "length"
    )


def test_two_models_of_images(parts: dict[str, Path]) -> None:
    photos = sorted(parts["photos"].iterdir())
    model = train(
        "align", [(one, one) for one in photos], left=parts["images"], right=parts["images"], strength=1.0
    )
    assert model.modalities == ("image",) and isinstance(model, JointEmbedder)
    check_close(
        model.left.encode(photos[:3]), model.right.encode(photos[:3]), "one model on both sides", 1e-3
    )
    with pytest.raises(UsageError, match="both sides of the joint model read images"):
        model.encode(photos[0])
    with pytest.raises(ItemErrors, match="this model reads image, but the item is of the modality text"):
        model.encode("a text")
    with pytest.raises(UsageError, match="a model of images has no tokens"):
        model.tokens("a text")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda place: shutil.rmtree(place / "right"),
            "right is missing: the joint model's folder is incomplete",
        ),
        (lambda place: (place / "heads.safetensors").unlink(), "heads.safetensors"),
        (lambda place: swap(place), "left: its head needs 48 components, but its model has 32"),
        (lambda place: nest(place), "left is itself a joint model"),
    ],
)
def test_folders_that_are_not_whole_are_refused_in_one_line(
    folder: Path, tmp_path: Path, spoil: Any, said: str
) -> None:
    place = Path(shutil.copytree(folder, tmp_path / "joint"))
    spoil(place)
    with pytest.raises(ModelError, match=said) as caught:
        omnivec.load(place)
    assert "\n" not in str(caught.value)


def swap(place: Path) -> None:
    shutil.rmtree(place / "left")
    shutil.copytree(place / "right", place / "left")


def nest(place: Path) -> None:
    inner = shutil.copytree(place, place.parent / "inner")
    shutil.rmtree(place / "left")
    shutil.move(inner, place / "left")


def test_the_heads_width_is_said_in_the_config(folder: Path) -> None:
    said = read_json(folder / "config.json")
    assert (said["dim"], said["metric"], said["left"]["layers"]) == (16, "cosine", 1)
