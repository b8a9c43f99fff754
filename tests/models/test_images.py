"""Images through `omnivec.load`: from files, bytes, pictures and arrays to the vectors that transformers makes."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel, ResNetConfig, ResNetModel, ViTConfig, ViTModel

import checkpoints
import omnivec
import photographs
from omnivec.errors import ItemErrors, ModelError, UsageError
from omnivec.models import runtime
from omnivec.models.network import Network
from omnivec.ops.process import resident
from omnivec.testing import check_close, open_model

SIZE = 48
PREPARED = {
    "resize": {"do_resize": True, "size": {"height": SIZE, "width": SIZE}, "resample": 2},
    "mean": {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.25], "do_normalize": True},
}
SAID = {"image_processor_type": "ViTImageProcessor", **PREPARED["resize"], **PREPARED["mean"]}
NAMES = ("astronaut", "coffee", "camera", "chelsea")


def prepared(pictures: list[Image.Image]) -> torch.Tensor:
    """What transformers' own processor makes of pictures."""
    place = importlib.import_module("transformers.models.vit.image_processing_pil_vit")
    said = {name: value for name, value in SAID.items() if name != "image_processor_type"}
    return torch.from_numpy(np.stack(place.ViTImageProcessorPil(**said)(pictures)["pixel_values"]))


def saved(folder: Path, model: torch.nn.Module) -> torch.nn.Module:
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(SAID))
    return model.eval()


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("vit")
    config = ViTConfig(
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=128,
        image_size=SIZE,
        patch_size=16,
    )
    return folder, saved(folder, checkpoints.discriminate(ViTModel(config, add_pooling_layer=False), 0))


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_every_way_to_hand_over_an_image(vit: tuple[Path, Any], tmp_path: Path, engine: str) -> None:
    model = open_model(vit[0], engine)
    pictures = [photographs.rgb(name) for name in NAMES]
    with torch.no_grad():
        expected = vit[1](pixel_values=prepared(pictures)).last_hidden_state[:, 0].numpy()
    pictures[0].save(tmp_path / "a.png")
    items = [
        tmp_path / "a.png",
        photographs.encoded(pictures[1], "PNG"),
        pictures[2],
        np.asarray(pictures[3]),
    ]
    got = model.run(items)
    check_close(got.vectors, expected, engine)
    assert (got.unit, model.modalities) == ("pixels", ("image",))
    check_close(model.encode(np.asarray(pictures[3])), expected[3], "one array is one image")
    check_close(model.encode(items * 5), np.tile(expected, (5, 1)), "in any batch")
    again = open_model(model.save(tmp_path / "again"), engine)
    check_close(again.encode(items), expected, "saved and loaded")
    assert again.identity == model.identity


def test_a_network_of_convolutions(tmp_path: Path) -> None:
    config = ResNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 2], layer_type="basic")
    reference = saved(tmp_path, checkpoints.discriminate(ResNetModel(config), 1))
    pictures = [photographs.rgb(name) for name in NAMES]
    with torch.no_grad():
        expected = reference(pixel_values=prepared(pictures)).pooler_output[:, :, 0, 0].numpy()
    check_close(open_model(tmp_path).encode(pictures), expected, "the mean over the last map")


def test_bad_files_are_named_and_the_others_are_there(vit: tuple[Path, Any], tmp_path: Path) -> None:
    good = photographs.rgb("coffee")
    whole = photographs.encoded(good, "JPEG")
    (tmp_path / "good.jpg").write_bytes(whole)
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("no picture at all")
    (tmp_path / "empty.png").write_bytes(b"")
    names = ["cut.jpg", "good.jpg", "text.jpg", "empty.png", "missing.png"]
    model = open_model(vit[0])
    with pytest.raises(ItemErrors) as caught:
        model.encode([*(tmp_path / name for name in names), "a text"])
    assert list(caught.value.failures) == [0, 2, 3, 4, 5]
    assert all(name in caught.value.failures[i] for i, name in enumerate(names) if i != 1)
    assert len(caught.value.partial.vectors) == 1


def test_what_needs_tokens_says_so(vit: tuple[Path, Any]) -> None:
    with pytest.raises(UsageError, match="a model of images has no tokens"):
        open_model(vit[0]).tokens("the engine")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("clip")
    size = checkpoints.wordpiece(folder)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
    config = CLIPConfig(
        text_config={**sizes, "vocab_size": size, "max_position_embeddings": 24, "eos_token_id": 3},
        vision_config={**sizes, "image_size": SIZE, "patch_size": 16},
        projection_dim=40,
    )
    return folder, saved(folder, checkpoints.discriminate(CLIPModel(config), 2))


def features(found: Any) -> np.ndarray:
    vectors = getattr(found, "pooler_output", found)
    return torch.nn.functional.normalize(vectors, dim=-1).numpy()


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_texts_and_images_in_one_space(clip: tuple[Path, Any], tmp_path: Path, engine: str) -> None:
    model = omnivec.load(clip[0], engine=engine)
    assert model.modalities == ("text", "image")
    pictures = [photographs.rgb(name) for name in NAMES[:2]]
    texts = ["the quick engine", "a fox"]
    ids = [model.model.texts.tokenizer.ids([text])[0] for text in texts]
    with torch.no_grad():
        of_texts = [
            features(clip[1].get_text_features(torch.from_numpy(own[None].astype(np.int64)))) for own in ids
        ]
        of_images = features(clip[1].get_image_features(prepared(pictures)))
    pictures[1].save(tmp_path / "b.png")
    got = model.run([texts[0], pictures[0], 3.5, texts[1], tmp_path / "b.png", tmp_path / "no.png"])
    assert got.kept.tolist() == [0, 1, 3, 4]
    assert list(got.failures) == [2, 5]
    expected = np.stack([of_texts[0][0], of_images[0], of_texts[1][0], of_images[1]])
    check_close(got.vectors, expected, engine)
    check_close(np.linalg.norm(got.vectors, axis=1), np.ones(4), "length")
    json.dumps(model.card)
    assert model.identity == omnivec.load(clip[0]).identity


def test_images_and_towers_obey_a_ceiling(vit: tuple[Path, Any], clip: tuple[Path, Any]) -> None:
    pictures = [photographs.rgb(name) for name in NAMES]
    room = int(resident() / 1e6) + 2_000  # This process may have run other tests.
    for folder, texts in ((vit[0], []), (clip[0], ["the quick engine"])):
        model = omnivec.load(folder, max_memory=f"{room}MB")
        check_close(
            model.encode([*pictures, *texts]), omnivec.load(folder).encode([*pictures, *texts]), "below"
        )
        cards = model.card.get("towers", {"image": model.card}).values()
        assert all(card["reasons"]["budget"] == f"as {room:,} MB of memory allow" for card in cards)
    with pytest.raises(ModelError, match="max_memory=120 MB is too low"):
        omnivec.load(clip[0], max_memory="120MB")


def test_batches_of_images_are_as_small_as_the_budget(
    vit: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rows, compute = open_model(vit[0]), [], Network.compute

    def counted(self: Network, batch: Any, alone: bool) -> np.ndarray:
        rows.append(len(batch))
        return compute(self, batch, alone)

    monkeypatch.setattr(Network, "compute", counted)
    pixels = np.random.default_rng(0).integers(0, 256, (11, SIZE, SIZE, 3)).astype(np.uint8)
    whole = model.encode(list(pixels))
    assert sorted(rows) == [3, 8]
    encoder: Any = model.encoder
    encoder.budget = int(2.9 * SIZE * SIZE)
    rows.clear()
    check_close(model.encode(list(pixels)), whole, "in batches of two")
    assert sorted(rows) == [1, 2, 2, 2, 2, 2]


def test_efficientnets_are_exact_unless_asked_otherwise(
    monkeypatch: pytest.MonkeyPatch, vit: tuple[Path, Any]
) -> None:
    monkeypatch.delenv("OMNIVEC_PRECISION")
    monkeypatch.setattr(runtime, "cpu_flags", lambda: frozenset({"amx_bf16"}))
    card = omnivec.load("efficientnet-lite0").card
    assert card["precision"] == "float32" and "1 - cosine = 1e-2" in card["reasons"]["precision"]
    assert omnivec.load("efficientnet-lite0", precision="bfloat16").card["precision"] == "bfloat16"
    assert omnivec.load("efficientnet-lite0", precision="int8").card["arithmetic"] == "float32"
    assert omnivec.load(vit[0]).card["precision"] == "bfloat16"  # others are as the CPU has it


def test_the_published_lite_network_knows_an_astronaut() -> None:
    from omnivec import hub
    from omnivec.models import registry

    facts = registry.known()["efficientnet-lite0"]
    folder = hub.resolve("efficientnet-lite0", known=registry.known()).folder
    vector = open_model(folder).encode(photographs.rgb("astronaut"))
    assert vector.shape == (facts["dim"],)
    check_close(vector[:5], np.array(facts["components"]), "the first components", 1e-4)


def test_jpegs_are_decoded_whole_where_asked(vit: tuple[Path, Any], tmp_path: Path) -> None:
    """A photograph of many times the model's size, through `load`; provenance says which way was taken."""
    path = tmp_path / "large.jpg"
    photographs.rgb("coffee").resize((1200, 800)).save(path, quality=95)
    reduced, exact = (
        omnivec.load(vit[0], decode=decode, precision="float32") for decode in ("reduced", "exact")
    )
    assert [model.provenance["decode"] for model in (reduced, exact)] == ["reduced", "exact"]
    assert reduced.identity == exact.identity
    whole = omnivec.load(vit[0], precision="float32").encode(Image.open(path))
    check_close(exact.encode(path), whole, "decoded whole")
    a, b = reduced.encode(path), exact.encode(path)
    assert not np.array_equal(a, b)
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.999


def test_another_way_to_decode_is_refused(vit: tuple[Path, Any]) -> None:
    with pytest.raises(UsageError, match="decode='fast' is none of reduced, exact"):
        omnivec.load(vit[0], decode="fast")  # type: ignore[arg-type]


def test_a_config_that_does_not_fit_its_weights_is_said_with_the_shapes(
    vit: tuple[Path, Any], tmp_path: Path
) -> None:
    """Positions of 3 x 3 patches, and a config that promises 4 x 4: the engine's own error would be a traceback."""
    folder = Path(shutil.copytree(vit[0], tmp_path / "other"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 32}))
    with pytest.raises(
        ModelError, match=r"config\.json: hidden_size is 32, but .* of the weights is 1 x 10 x 64"
    ) as caught:
        omnivec.load(folder)
    assert "\n" not in str(caught.value)
