"""ResNet against transformers, in its names, timm's and torchvision's."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import ResNetConfig, ResNetForImageClassification, ResNetModel

from encoders import ENGINES, changed
from omnivec.errors import UnsupportedModel, WeightsError
from omnivec.families import resnet
from omnivec.models import registry
from omnivec.models.model import known_keys
from omnivec.ops.base import Params
from omnivec.ops.torch import TorchOps
from omnivec.testing import check_close, check_rejected
from pictures import SIZES, bfloat16_cosine, check_states, discriminate, pictures, read, with_operation

BASIC = {
    "layer_type": "basic",
    "embedding_size": 16,
    "hidden_sizes": [16, 24, 32, 48],
    "depths": [2, 1, 3, 2],
}
DEEP = {
    "layer_type": "bottleneck",
    "embedding_size": 32,
    "hidden_sizes": [64, 96, 128, 192],
    "depths": [2, 3, 1, 2],
}
KINDS: dict[str, Any] = {
    "basic": BASIC,
    "bottleneck": DEEP,
    "bottleneck, v1": DEEP | {"downsample_in_bottleneck": True},
    "down at once": BASIC | {"downsample_in_first_stage": True, "hidden_act": "gelu"},
}


# The last norm of each layer.
LAST = {"basic": r"layer\.1\.norm", "bottleneck": r"layer\.2\.norm"}


def published(folder: Path, settings: dict[str, Any], quiet: str = "^$") -> ResNetModel:
    """A checkpoint as transformers publishes one, with its classifier, and transformers' model of it."""
    model = ResNetForImageClassification(ResNetConfig(**settings, num_labels=7))
    discriminate(model, quiet=quiet).save_pretrained(folder)
    return model.resnet


def config_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())


def expected_states(model: ResNetModel, batch: np.ndarray) -> list[torch.Tensor]:
    with torch.no_grad():
        out = model.double()(torch.from_numpy(batch).double(), output_hidden_states=True)
    model.float()
    return [*out.hidden_states, out.last_hidden_state]


@pytest.fixture(scope="module", params=KINDS)
def made(request: Any, tmp_path_factory: Any) -> tuple[Path, ResNetModel]:
    folder = tmp_path_factory.mktemp("resnet")
    return folder, published(folder, KINDS[request.param])


@pytest.mark.parametrize("engine", ENGINES)
def test_every_stage_equals_transformers(made: tuple[Path, ResNetModel], engine: str) -> None:
    folder, model = made
    ours = read(resnet, config_of(folder), folder)
    for n, height, width in SIZES:
        batch = pictures(n, height, width)
        expected = expected_states(model, batch)
        check_states(ours.states(engine, batch), expected, f"{engine} {batch.shape}")
        check_close(ours.vectors(engine, batch), model.pooler(expected[-1]).flatten(1).numpy(), "the vectors")
        assert expected[-1].shape[1] == ours.config.dim


def torchvision_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """transformers' names of weights as torchvision and timm have them, key for key."""
    renamed = {}
    for name, value in state.items():
        name = re.sub(r"^embedder\.embedder\.convolution", "conv1", name)
        name = re.sub(r"^embedder\.embedder\.normalization", "bn1", name)
        name = re.sub(
            r"^encoder\.stages\.(\d)\.layers\.(\d+)", lambda m: f"layer{int(m[1]) + 1}.{m[2]}", name
        )
        name = re.sub(r"\.layer\.(\d)\.convolution", lambda m: f".conv{int(m[1]) + 1}", name)
        name = re.sub(r"\.layer\.(\d)\.normalization", lambda m: f".bn{int(m[1]) + 1}", name)
        name = name.replace(".shortcut.convolution", ".downsample.0")
        renamed[name.replace(".shortcut.normalization", ".downsample.1")] = value
    return renamed | {"fc.weight": torch.ones(7, 512), "fc.bias": torch.ones(7)}


@pytest.mark.parametrize(("name", "kind"), [("resnet18", "basic"), ("resnet50", "bottleneck")])
def test_timms_and_torchvisions_folders(tmp_path: Path, name: str, kind: str) -> None:
    depths, widths = resnet._ARCHITECTURES[name][0], resnet._WIDTHS[kind]
    model = ResNetModel(ResNetConfig(layer_type=kind, depths=depths, hidden_sizes=widths))
    state = torchvision_names(discriminate(model, quiet=LAST[kind]).state_dict())
    assert {"conv1.weight", "bn1.running_var", "layer2.0.downsample.1.num_batches_tracked"} <= set(state)
    torch.save(state, tmp_path / "weights.pth", _use_new_zipfile_serialization=False)
    batch = pictures(2, 64, 70)
    timm = {"architecture": name, "num_classes": 1000, "pretrained_cfg": {"tag": "a1_in1k"}}
    ours = read(resnet, timm, tmp_path / "weights.pth")
    assert registry.family_of_config(timm, tmp_path).name == "resnet"
    assert set(ours.tensors) == {n for n in model.state_dict() if "num_batches" not in n}
    check_states(ours.states("openvino", batch), expected_states(model, batch), name)
    again = read(resnet, timm, {n: torch.from_numpy(tensor.data) for n, tensor in ours.tensors.items()})
    assert again.tensors.keys() == ours.tensors.keys()


def test_a_torchvision_file_tells_its_architecture(tmp_path: Path) -> None:
    claims: Any = resnet.CLAIMS
    for file, config in claims["files"].items():
        folder = tmp_path / file.replace(".", "_")
        folder.mkdir()
        (folder / file).touch()
        assert registry.family_of_config(registry.config_of_files(folder), folder).name == "resnet"
        assert file.startswith(config["architecture"] + "-")


@pytest.mark.parametrize("name", resnet._ARCHITECTURES)
def test_an_architecture_has_the_layers_of_its_name(name: str) -> None:
    depths, kind = resnet._ARCHITECTURES[name]
    assert sum(depths) * {"basic": 2, "bottleneck": 3}[kind] + 2 == int(name.removeprefix("resnet"))


def by_own_statistics(right: Callable[..., Any], x: Any, p: Any, eps: float, *rest: Any) -> Any:
    weight, bias = (p[name][None, :, None, None] for name in ("weight", "bias"))
    mean = x.mean((0, 2, 3), keepdim=True)
    return (x - mean) / (x.var((0, 2, 3), keepdim=True) + eps) ** 0.5 * weight + bias


VARIANTS = {
    "v1's stride": changed(resnet, downsample_in_bottleneck=True),
    "GELU for ReLU": changed(resnet, hidden_act="gelu"),
    "an epsilon of 1e-3": with_operation(
        resnet, "batch_norm", lambda right, x, p, eps, *rest: right(x, p, 1e-3, *rest)
    ),
    "norms by the batch's statistics": with_operation(resnet, "batch_norm", by_own_statistics),
    "TensorFlow's padding": with_operation(
        resnet, "conv", lambda right, x, p, stride, padding: right(x, p, stride, "same")
    ),
    "means for maxima": with_operation(
        resnet, "max_pool", lambda right, x, *how: torch.nn.functional.avg_pool2d(x, *how)
    ),
    "a layer left out": changed(resnet, depths=(2, 2, 1, 2)),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_wrong_variants_are_told_apart(tmp_path: Path, variant: str) -> None:
    model = published(tmp_path, DEEP)
    ours, batch = read(resnet, config_of(tmp_path), tmp_path), pictures(2, 64, 64)
    expected = expected_states(model, batch)[-1].flatten(2).transpose(1, 2).numpy()
    check_close(ours.states("torch", batch)[-1], expected, "the right one")
    check_rejected(ours.states("torch", batch, VARIANTS[variant])[-1], expected, variant)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_stays_near(tmp_path: Path, kind: str, engine: str) -> None:
    published(tmp_path, KINDS[kind], LAST[KINDS[kind]["layer_type"]])
    ours = read(resnet, config_of(tmp_path), tmp_path)
    assert bfloat16_cosine(ours, engine, pictures(6, 64, 64)).min() > 0.999


def test_a_picture_is_the_same_in_any_batch(made: tuple[Path, ResNetModel]) -> None:
    ours, batch = read(resnet, config_of(made[0]), made[0]), pictures(4, 40, 56)
    for engine in ENGINES:
        whole = ours.vectors(engine, batch)
        alone = np.concatenate([ours.vectors(engine, batch[i : i + 1]) for i in range(4)])
        check_close(alone, whole, engine)


def test_training_uses_the_batchs_statistics(made: tuple[Path, ResNetModel]) -> None:
    """Under torch the same forward trains: statistics move, every weight has a gradient."""
    ours = read(resnet, config_of(made[0]), made[0])
    values = {name: torch.from_numpy(t.float32().copy()) for name, t in ours.tensors.items()}
    before = values["embedder.embedder.normalization.running_mean"].clone()
    trained = {n: v.requires_grad_() for n, v in values.items() if "running" not in n}
    ops = TorchOps(training=True)
    pixels = torch.from_numpy(pictures(3, 64, 64))
    out = resnet.forward(ops, Params(values, values.__getitem__), ours.config, SimpleNamespace(pixels=pixels))
    (out * torch.randn(out.shape)).sum().backward()
    assert all(v.grad is not None and v.grad.abs().max() > 0 for v in trained.values())
    assert not torch.equal(values["embedder.embedder.normalization.running_mean"], before)


def test_what_is_not_covered_is_refused() -> None:
    for change, words in {
        "layer_type": ("wide", "layer_type 'wide' is none of basic, bottleneck"),
        "hidden_act": ("mish", "hidden_act 'mish'"),
        "num_channels": (1, "num_channels 1"),
        "model_args": ({"stem_type": "deep"}, "stem_type"),
    }.items():
        with pytest.raises(UnsupportedModel, match=words[1]):
            known_keys(resnet, {change: words[0]}, Path("folder"))


def test_weights_that_do_not_fit_are_named(made: tuple[Path, ResNetModel]) -> None:
    config = config_of(made[0])
    config["depths"] = [*config["depths"][:-1], 3]
    with pytest.raises(WeightsError, match=r"encoder\.stages\.3\.layers\.2"):
        read(resnet, config, made[0]).states("torch", pictures(1, 32, 32))
