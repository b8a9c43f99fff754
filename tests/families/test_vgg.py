"""VGG against the paper in plain torch, in torchvision's names and timm's."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from encoders import ENGINES
from omnivec.errors import UnsupportedModel, WeightsError
from omnivec.families import vgg
from omnivec.models import registry
from omnivec.models.model import known_keys
from omnivec.testing import check_close, check_rejected
from pictures import SIZES, bfloat16_cosine, check_states, discriminate, pictures, read, with_operation

# Columns A and D of the paper's table, an eighth as wide; M is a maximum over 2x2.
TABLE: dict[str, list[int | str]] = {
    "vgg11": [8, "M", 16, "M", 32, 32, "M", 64, 64, "M", 64, 64, "M"],
    "vgg16": [8, 8, "M", 16, 16, "M", 32, 32, 32, "M", 64, 64, 64, "M", 64, 64, 64, "M"],
}
WIDTH = 48
CLAIMS: Any = vgg.CLAIMS
NAMES = ["vgg11", "vgg11_bn", "vgg16", "vgg16_bn"]


class Stated(torch.nn.Module):
    """VGG as its paper says it, with torchvision's names; the last map is averaged to 7x7 places."""

    def __init__(self, name: str) -> None:
        super().__init__()
        layers: list[torch.nn.Module] = []
        before = 3
        for entry in TABLE[name.removesuffix("_bn")]:
            if isinstance(entry, str):
                layers.append(torch.nn.MaxPool2d(2))
                continue
            layers.append(torch.nn.Conv2d(before, entry, 3, padding=1))
            layers += [torch.nn.BatchNorm2d(entry)] if name.endswith("_bn") else []
            layers.append(torch.nn.ReLU())
            before = entry
        self.features = torch.nn.Sequential(*layers)
        self.classifier = torch.nn.Sequential(
            *(torch.nn.Linear(before * 49, WIDTH), torch.nn.ReLU(), torch.nn.Dropout()),
            *(torch.nn.Linear(WIDTH, WIDTH), torch.nn.ReLU(), torch.nn.Dropout(), torch.nn.Linear(WIDTH, 9)),
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        states = []
        for layer in self.features:
            x = layer(x)
            states += [x] if isinstance(layer, torch.nn.MaxPool2d) else []
        x = torch.nn.functional.adaptive_avg_pool2d(x, 7).flatten(1)
        first = self.classifier[1](self.classifier[0](x))
        second = self.classifier[4](self.classifier[3](self.classifier[2](first)))
        return [*states, first[:, None], second[:, None], second[:, None]]


def timm_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """torchvision's names of weights as timm has them: hidden layers are convolutions there."""
    renamed = {name: value for name, value in state.items() if name.startswith("features.")}
    side = {0: 7, 3: 1}
    for place, name in ((0, "pre_logits.fc1"), (3, "pre_logits.fc2")):
        matrix = state[f"classifier.{place}.weight"]
        renamed[f"{name}.weight"] = matrix.reshape(len(matrix), -1, side[place], side[place])
        renamed[f"{name}.bias"] = state[f"classifier.{place}.bias"]
    return renamed | {f"head.fc.{part}": state[f"classifier.6.{part}"] for part in ("weight", "bias")}


def exact_states(model: Stated, batch: np.ndarray) -> list[torch.Tensor]:
    with torch.no_grad():
        states = model.double()(torch.from_numpy(batch).double())
    model.float()
    return states


@pytest.fixture(scope="module", params=NAMES)
def made(request: Any) -> tuple[dict[str, Any], Stated]:
    return {"architecture": request.param, "num_features": WIDTH}, discriminate(Stated(request.param))


@pytest.mark.parametrize("engine", ENGINES)
def test_every_stage_equals_the_paper(made: tuple[dict[str, Any], Stated], engine: str) -> None:
    config, model = made
    ours = read(vgg, config, model.state_dict())
    assert (ours.config.dim, registry.family_of_config(config, Path("x")).name) == (WIDTH, "vgg")
    for n, height, width in (*SIZES, (1, 224, 224), (1, 250, 231)):
        batch = pictures(n, height, width)
        check_states(ours.states(engine, batch), exact_states(model, batch), f"{engine} {batch.shape}")


def test_published_forms_of_the_same_weights(made: tuple[dict[str, Any], Stated], tmp_path: Path) -> None:
    config, model = made
    torch.save(timm_names(model.state_dict()), tmp_path / "pytorch_model.bin")
    torch.save(
        {"state_dict": {f"module.{n}": v for n, v in model.state_dict().items()}}, tmp_path / "file.pth"
    )
    batch = pictures(2, 64, 80)
    plain = read(vgg, config, model.state_dict())
    for source in (tmp_path, tmp_path / "file.pth"):
        ours = read(vgg, config, source)
        assert {n: t.shape for n, t in ours.tensors.items()} == {n: t.shape for n, t in plain.tensors.items()}
        check_close(ours.vectors("torch", batch), plain.vectors("torch", batch), source.name, 1e-7)


@pytest.mark.parametrize("name", CLAIMS["where"]["architecture"])
def test_an_architecture_has_the_layers_of_its_name(name: str) -> None:
    config = vgg.Config(
        **{k: v for k, v in vgg.canonical({"architecture": name}).items() if k != "architecture"}
    )
    plain, _, norm = name.partition("_")
    assert sum(config.depths) + 3 == int(plain.removeprefix("vgg"))
    assert (config.batch_norm, config.dim) == (norm == "bn", 4096)


def test_a_torchvision_file_tells_its_architecture(tmp_path: Path) -> None:
    for file, config in CLAIMS["files"].items():
        folder = tmp_path / file.replace(".", "_")
        folder.mkdir()
        (folder / file).touch()
        assert registry.family_of_config(registry.config_of_files(folder), folder).name == "vgg"
        assert file.startswith(config["architecture"] + "-")


VARIANTS = {
    "an epsilon of 1e-3": with_operation(vgg, "batch_norm", lambda right, x, p, eps: right(x, p, 1e-3)),
    "no norms": with_operation(vgg, "batch_norm", lambda right, x, p, eps: x),
    "GELU for ReLU": with_operation(vgg, "relu", lambda right, x: torch.nn.functional.gelu(x)),
    "means for maxima": with_operation(
        vgg, "max_pool", lambda right, x, *how: torch.nn.functional.avg_pool2d(x, *how)
    ),
    "channels last in the map's row": with_operation(
        vgg, "adaptive_mean", lambda right, x, size: right(x, size).permute(0, 2, 3, 1)
    ),
    "the map's corner for its means": with_operation(
        vgg, "adaptive_mean", lambda right, x, size: right(x[:, :, : size[0], : size[1]], size)
    ),
    "dropout outside training": with_operation(vgg, "dropout", lambda right, x, rate: x * (1 - rate)),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_wrong_variants_are_told_apart(variant: str) -> None:
    model, batch = discriminate(Stated("vgg11_bn")), pictures(2, 256, 300)
    ours = read(vgg, {"architecture": "vgg11_bn", "num_features": WIDTH}, model.state_dict())
    expected = exact_states(model, batch)[-1].numpy()
    check_close(ours.states("torch", batch)[-1], expected, "the right one")
    check_rejected(ours.states("torch", batch, VARIANTS[variant])[-1], expected, variant)


def test_another_architecture_lacks_weights(made: tuple[dict[str, Any], Stated]) -> None:
    config, model = made
    other = {"vgg11": "vgg19", "vgg16": "vgg19"}[config["architecture"].removesuffix("_bn")]
    with pytest.raises(WeightsError, match="lack"):
        read(vgg, config | {"architecture": other}, model.state_dict()).states(
            "openvino", pictures(1, 64, 64)
        )


@pytest.mark.parametrize("engine", ENGINES)
def test_bfloat16_stays_near(engine: str) -> None:
    model = discriminate(Stated("vgg11"))
    ours = read(vgg, {"architecture": "vgg11", "num_features": WIDTH}, model.state_dict())
    assert bfloat16_cosine(ours, engine, pictures(6, 224, 224)).min() > 0.999


@pytest.mark.parametrize("engine", ENGINES)
def test_bfloat16_rounds_no_more_than_torch_does(made: tuple[dict[str, Any], Stated], engine: str) -> None:
    """Without shortcuts random weights blow rounding up, the more the deeper, whoever rounds."""
    config, model = made
    batch = pictures(6, 96, 96)
    exact = exact_states(model, batch)[-1][:, 0].numpy()
    with torch.no_grad():
        theirs = copy.deepcopy(model).bfloat16()(torch.from_numpy(batch).bfloat16())[-1][:, 0].float().numpy()
    ours = read(vgg, config, model.state_dict()).vectors(engine, batch, precision="bfloat16")
    assert np.linalg.norm(ours - exact) < 1.25 * np.linalg.norm(theirs - exact)


def test_other_arguments_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match="in_chans"):
        known_keys(vgg, {"architecture": "vgg11", "model_args": {"in_chans": 1}}, Path("folder"))
