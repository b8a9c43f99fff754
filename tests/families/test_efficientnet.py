"""EfficientNet against transformers, in its names, timm's and a package's; and the real Lite0."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import EfficientNetConfig, EfficientNetForImageClassification, EfficientNetModel

from encoders import ENGINES, changed
from omnivec import weights
from omnivec.errors import UnsupportedModel, WeightsError
from omnivec.families import efficientnet
from omnivec.models import registry
from omnivec.models.model import known_keys
from omnivec.ops.base import Params
from omnivec.ops.torch import TorchOps
from omnivec.testing import check_close, check_rejected
from pictures import (
    SIZES,
    Read,
    bfloat16_cosine,
    check_states,
    discriminate,
    pictures,
    read,
    rows,
    with_operation,
)

SMALL = {"width_coefficient": 0.75, "depth_coefficient": 1.0, "hidden_dim": 960, "image_size": 64}
KINDS: dict[str, Any] = {
    "small": SMALL,
    "deeper": SMALL | {"depth_coefficient": 1.4, "depthwise_padding": [2, 9], "batch_norm_eps": 1e-2},
    "another table": {
        "width_coefficient": 1.0,
        "depth_coefficient": 1.0,
        "hidden_dim": 1280,
        "kernel_sizes": [5, 3, 7],
        "in_channels": [32, 24, 40],
        "out_channels": [24, 40, 40],
        "strides": [2, 2, 1],
        "num_block_repeats": [2, 3, 1],
        "expand_ratios": [1, 3, 4],
        "depthwise_padding": [0],
        "squeeze_expansion_ratio": 0.5,
    },
}


def branches(depths: Sequence[int]) -> str:
    """The last norms of the blocks that are added to their input: all but the first of each stage."""
    firsts = {sum(depths[:stage]) for stage in range(len(depths))}
    later = "|".join(str(i) for i in range(sum(depths)) if i not in firsts)
    return rf"blocks\.({later})\.(projection\.project_bn|_bn2)$"


def published(folder: Path, settings: dict[str, Any]) -> EfficientNetModel:
    """A checkpoint as transformers publishes one, with its classifier, and transformers' model of it."""
    config = EfficientNetConfig(**settings, num_labels=7)
    model = EfficientNetForImageClassification(config)
    model.efficientnet.pooler = torch.nn.AdaptiveAvgPool2d(
        1
    )  # theirs averages 2560 places at most, in this class
    depths = efficientnet.canonical(config.to_dict())["depths"]
    discriminate(model, quiet=branches(depths)).save_pretrained(folder)
    return model.efficientnet


def config_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())


def expected_states(model: EfficientNetModel, batch: np.ndarray) -> list[torch.Tensor]:
    """Of transformers' states, one for each block, those behind a stage."""
    ends = np.cumsum(efficientnet.canonical(model.config.to_dict())["depths"])
    with torch.no_grad():
        out = model.double()(torch.from_numpy(batch).double(), output_hidden_states=True)
    model.float()
    stages = [out.hidden_states[int(end)] for end in ends]
    return [out.hidden_states[0], *stages, out.last_hidden_state, out.last_hidden_state]


@pytest.fixture(scope="module", params=KINDS)
def made(request: Any, tmp_path_factory: Any) -> tuple[Path, EfficientNetModel]:
    folder = tmp_path_factory.mktemp("efficientnet")
    return folder, published(folder, KINDS[request.param])


@pytest.mark.parametrize("engine", ENGINES)
def test_every_stage_equals_transformers(made: tuple[Path, EfficientNetModel], engine: str) -> None:
    folder, model = made
    ours = read(efficientnet, config_of(folder), folder)
    for n, height, width in SIZES:
        batch = pictures(n, height, width)
        expected = expected_states(model, batch)
        check_states(ours.states(engine, batch), expected, f"{engine} {batch.shape}")
        check_close(ours.vectors(engine, batch), expected[-1].mean((2, 3)).numpy(), "the vectors")
        assert expected[-1].shape[1] == ours.config.dim


class Stated(torch.nn.Module):
    """EfficientNet as its paper and TensorFlow's repository say it, in plain torch, with the package's names.

    Norms have an epsilon of `eps`; `same` pads as TensorFlow does, else both sides have half a kernel of zeros.
    """

    def __init__(self, size: str, eps: float, same: bool) -> None:
        super().__init__()
        self.lite, self.eps, self.same = size.startswith("lite"), eps, same
        width, depth = {"b0": (1.0, 1.0), "b2": (1.1, 1.2), "lite0": (1.0, 1.0), "lite2": (1.1, 1.2)}[size]
        # kernel, stride, expansion, channels, repeats: table 1 of the paper
        table = [(3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3)]
        table += [(5, 1, 6, 112, 3), (5, 2, 6, 192, 4), (3, 1, 6, 320, 1)]
        before = 32 if self.lite else self.scaled(32, width)
        self._conv_stem = torch.nn.Conv2d(3, before, 3, 2, bias=False)
        self._bn0 = self.norm(before)
        self._blocks, self.ends = torch.nn.ModuleList(), []
        for i, (kernel, stride, ratio, channels, repeats) in enumerate(table):
            fixed = self.lite and i in (0, 6)
            for j in range(repeats if fixed else int(np.ceil(repeats * depth))):
                after = self.scaled(channels, width)
                self._blocks.append(self.block(before, after, kernel, stride if j == 0 else 1, ratio))
                before = after
            self.ends.append(len(self._blocks) - 1)
        last = 1280 if self.lite else self.scaled(1280, width)
        self._conv_head = torch.nn.Conv2d(before, last, 1, bias=False)
        self._bn1, self._fc = self.norm(last), torch.nn.Linear(last, 1000)

    @staticmethod
    def scaled(channels: int, width: float) -> int:
        near = max(8, int(channels * width + 4) // 8 * 8)
        return near + 8 if near < 0.9 * channels * width else near

    def norm(self, channels: int) -> torch.nn.BatchNorm2d:
        return torch.nn.BatchNorm2d(channels, eps=self.eps)

    def block(self, before: int, after: int, kernel: int, stride: int, ratio: int) -> torch.nn.ModuleDict:
        wide, conv = before * ratio, torch.nn.Conv2d
        parts: dict[str, torch.nn.Module] = {}
        if ratio > 1:
            parts |= {"_expand_conv": conv(before, wide, 1, bias=False), "_bn0": self.norm(wide)}
        parts["_depthwise_conv"] = conv(wide, wide, kernel, stride, groups=wide, bias=False)
        parts["_bn1"] = self.norm(wide)
        if not self.lite:
            parts |= {"_se_reduce": conv(wide, before // 4, 1), "_se_expand": conv(before // 4, wide, 1)}
        parts |= {"_project_conv": conv(wide, after, 1, bias=False), "_bn2": self.norm(after)}
        return torch.nn.ModuleDict(parts)

    def act(self, x: torch.Tensor) -> torch.Tensor:
        return x.clamp(0, 6) if self.lite else x * torch.sigmoid(x)

    def padded(self, conv: torch.nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
        kernel, stride = conv.kernel_size[0], conv.stride[0]
        pads = [kernel // 2] * 4
        if self.same:
            pads = []
            for size in (x.shape[3], x.shape[2]):
                total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
                pads += [total // 2, total - total // 2]
        return conv(F.pad(x, pads))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        x = self.act(self._bn0(self.padded(self._conv_stem, x)))
        states = [x]
        for i, block in enumerate(self._blocks):
            y = x
            if "_expand_conv" in block:
                y = self.act(block["_bn0"](block["_expand_conv"](y)))
            y = self.act(block["_bn1"](self.padded(block["_depthwise_conv"], y)))
            if not self.lite:
                gate = block["_se_reduce"](y.mean((2, 3), keepdim=True))
                y = y * torch.sigmoid(block["_se_expand"](self.act(gate)))
            y = block["_bn2"](block["_project_conv"](y))
            x = x + y if block["_depthwise_conv"].stride[0] == 1 and x.shape == y.shape else y
            states += [x] if i in self.ends else []
        x = self.act(self._bn1(self._conv_head(x)))
        return [*states, x, x]


def timm_names(model: Stated) -> dict[str, torch.Tensor]:
    """The package's names of weights as timm has them, key for key."""
    top = {
        "_conv_stem": "conv_stem",
        "_bn0": "bn1",
        "_conv_head": "conv_head",
        "_bn1": "bn2",
        "_fc": "classifier",
    }
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    later = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
    later |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
    squeeze = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
    renamed = {}
    for name, value in model.state_dict().items():
        if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name):
            number, part, rest = int(match[1]), match[2], match[3]
            stage = next(i for i, end in enumerate(model.ends) if number <= end)
            place = number - ([-1, *model.ends][stage] + 1)
            named = (later if stage else first) | squeeze
            renamed[f"blocks.{stage}.{place}.{named[part]}.{rest}"] = value
        else:
            part, _, rest = name.partition(".")
            renamed[f"{top[part]}.{rest}"] = value
    return renamed


@functools.cache
def stated(architecture: str) -> Stated:
    maker, _, size = architecture.rpartition("efficientnet_")
    model = Stated(size, 1e-3 if maker else 1e-5, bool(maker))
    return discriminate(model, quiet=branches(np.diff([-1, *model.ends]).tolist()))


def exact_states(model: Stated, batch: np.ndarray) -> list[torch.Tensor]:
    with torch.no_grad():
        states = model.double()(torch.from_numpy(batch).double())
    model.float()
    return states


ARCHITECTURES = ["efficientnet_b0", "tf_efficientnet_b2", "efficientnet_lite2", "tf_efficientnet_lite0"]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_timms_folders_equal_the_paper(tmp_path: Path, name: str) -> None:
    model = stated(name)
    torch.save(timm_names(model), tmp_path / "pytorch_model.bin")
    timm = {"architecture": name, "num_classes": 1000, "global_pool": "avg"}
    assert registry.family_of_config(timm, tmp_path).name == "efficientnet"
    ours = read(efficientnet, timm, tmp_path)
    package = read(efficientnet, timm, model.state_dict())
    assert ours.tensors.keys() == package.tensors.keys()
    for n, height, width in ((2, 64, 64), (1, 75, 50), (1, 97, 33)):
        batch = pictures(n, height, width)
        expected = exact_states(model, batch)
        for engine in ENGINES:
            check_states(ours.states(engine, batch), expected, f"{name}, {engine} {batch.shape}")
    check_close(package.vectors("torch", batch), ours.vectors("torch", batch), "in the package's names")


def test_a_squeeze_in_transformers_names_and_timms_is_one_network() -> None:
    """At an even size TensorFlow's padding is what transformers states."""
    settings = {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280}
    model = discriminate(
        EfficientNetModel(EfficientNetConfig(**settings)), quiet=branches(efficientnet._REPEATS)
    )
    ours = read(efficientnet, {"model_type": "efficientnet"} | settings, model.state_dict())
    named = {"architecture": "tf_efficientnet_b0"}
    again = read(efficientnet, named, {n: torch.from_numpy(t.data) for n, t in ours.tensors.items()})
    assert again.tensors.keys() == ours.tensors.keys()
    even, odd = pictures(2, 64, 64), pictures(2, 50, 50)
    check_close(again.vectors("torch", even), ours.vectors("torch", even), "even")
    check_rejected(again.vectors("torch", odd), ours.vectors("torch", odd), "odd")


SIZES_OF_PAPER = {"b0": 5.3, "b1": 7.8, "b2": 9.2, "b3": 12, "b4": 19, "b5": 30, "b6": 43, "b7": 66}


@pytest.mark.parametrize("size", SIZES_OF_PAPER)
def test_scales_have_the_papers_parameters(size: str) -> None:
    """Millions of parameters with the classifier: table 2."""
    config = efficientnet.Config(**efficientnet.canonical({"architecture": f"efficientnet_{size}"}))
    count = config.channels[0] * (27 + 2)
    number = 0
    for i, depth in enumerate(config.depths):
        for j in range(depth):
            before = config.channels[i + (j > 0)]
            wide, after = before * config.expand_ratios[i], config.channels[i + 1]
            count += wide * (before + 2) if config.expand_ratios[i] > 1 else 0
            count += wide * (config.kernel_sizes[i] ** 2 + 2)
            count += 2 * wide * (before // 4) + wide + before // 4
            count += after * (wide + 2)
            number += 1
    count += config.dim * (config.channels[-1] + 2) + 1000 * (config.dim + 1)
    assert count / 1e6 == pytest.approx(SIZES_OF_PAPER[size], rel=0.02)


def damped(ops: Any, p: Any, config: Any, batch: Any) -> Any:
    """Stochastic depth as an expectation, which inference leaves out."""
    with mock.patch.object(efficientnet, "_connected", lambda ops, x, rate: x * (1 - rate)):
        return efficientnet.forward(ops, p, config, batch)


VARIANTS = {
    "ReLU for SiLU": changed(efficientnet, hidden_act="relu"),
    "an epsilon of 1e-5": changed(efficientnet, batch_norm_eps=1e-5),
    "no squeeze": changed(efficientnet, squeeze_expansion_ratio=0.0),
    "as many zeros on each side": changed(efficientnet, padding="even"),
    "zeros as at odd sizes": changed(efficientnet, depthwise_padding=(1, 3)),
    "a hard gate": with_operation(efficientnet, "sigmoid", lambda right, x: (x / 6.0 + 0.5).clamp(0, 1)),
    "blocks damped": damped,
}
LITE_VARIANTS = {
    "SiLU for ReLU6": changed(efficientnet, hidden_act="silu"),
    "ReLU for ReLU6": changed(efficientnet, hidden_act="relu"),
    "an epsilon of 1e-5": changed(efficientnet, batch_norm_eps=1e-5),
    "as many zeros on each side": changed(efficientnet, padding="even"),
    "blocks damped": damped,
    "norms without their means": with_operation(
        efficientnet,
        "batch_norm",
        lambda right, x, p, *rest: right(x + p["running_mean"][None, :, None, None], p, *rest),
    ),
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: Any) -> tuple[Path, EfficientNetModel]:
    folder = tmp_path_factory.mktemp("small")
    return folder, published(folder, SMALL)


@pytest.mark.parametrize("variant", VARIANTS)
def test_wrong_variants_are_told_apart(small: tuple[Path, EfficientNetModel], variant: str) -> None:
    (folder, model), batch = small, pictures(2, 64, 64)
    ours = read(efficientnet, config_of(folder), folder)
    expected = rows(expected_states(model, batch)[-1])
    check_close(ours.states("torch", batch)[-1], expected, "the right one")
    check_rejected(ours.states("torch", batch, VARIANTS[variant])[-1], expected, variant)


@pytest.mark.parametrize("variant", LITE_VARIANTS)
def test_wrong_variants_of_lite_are_told_apart(variant: str) -> None:
    model, batch = stated("tf_efficientnet_lite0"), pictures(2, 64, 64)
    ours = read(efficientnet, {"architecture": "tf_efficientnet_lite0"}, model.state_dict())
    expected = rows(exact_states(model, batch)[-1])
    check_close(ours.states("torch", batch)[-1], expected, "the right one")
    check_rejected(ours.states("torch", batch, LITE_VARIANTS[variant])[-1], expected, variant)


@pytest.mark.parametrize("engine", ENGINES)
def test_bfloat16_stays_near(tmp_path: Path, engine: str) -> None:
    published(tmp_path, KINDS["another table"])
    ours = read(efficientnet, config_of(tmp_path), tmp_path)
    assert bfloat16_cosine(ours, engine, pictures(6, 64, 64)).min() > 0.999


def test_a_picture_is_the_same_in_any_batch(small: tuple[Path, EfficientNetModel]) -> None:
    ours, batch = read(efficientnet, config_of(small[0]), small[0]), pictures(4, 40, 57)
    for engine in ENGINES:
        whole = ours.vectors(engine, batch)
        alone = np.concatenate([ours.vectors(engine, batch[i : i + 1]) for i in range(4)])
        check_close(alone, whole, engine)


def trained(ours: Read, batch: np.ndarray) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    values = {name: torch.from_numpy(t.float32().copy()) for name, t in ours.tensors.items()}
    for name, value in values.items():
        value.requires_grad_("running" not in name)
    p, ops = Params(values, values.__getitem__), TorchOps(training=True)
    pixels = SimpleNamespace(pixels=torch.from_numpy(batch))
    return efficientnet.forward(ops, p, ours.config, pixels), values


def test_in_training_statistics_move_and_blocks_are_skipped(made: tuple[Path, EfficientNetModel]) -> None:
    ours, batch = read(efficientnet, config_of(made[0]), made[0]), pictures(4, 64, 64)
    torch.manual_seed(0)
    out, values = trained(ours, batch)
    (out * torch.randn(out.shape)).sum().backward()
    learning = [value for name, value in values.items() if "running" not in name]
    assert all(value.grad is not None and value.grad.abs().max() > 0 for value in learning)
    name = "embeddings.batchnorm.running_mean"
    before = torch.from_numpy(ours.tensors[name].float32())
    assert 0 < (values[name].detach() - before).abs().max() < 0.1  # a hundredth of the way
    assert not torch.allclose(out, trained(ours, batch)[0])


def test_stochastic_depth_drops_whole_pictures() -> None:
    torch.manual_seed(0)
    x = torch.randn(2000, 3, 2, 2)
    got = efficientnet._connected(TorchOps(training=True), x, 0.25)
    share = (got / x).flatten(1)
    assert ((share == 0).all(1) | torch.isclose(share, torch.tensor(4 / 3)).all(1)).all()
    assert (share == 0).all(1).float().mean() == pytest.approx(0.25, abs=0.03)
    assert efficientnet._connected(TorchOps(), x, 0.25) is x


def test_what_is_not_covered_is_refused() -> None:
    for change, words in {
        "hidden_act": ("mish", "hidden_act 'mish'"),
        "pooling_type": ("max", "only mean"),
        "num_channels": (1, "num_channels 1"),
        "model_args": ({"in_chans": 1}, "in_chans"),
    }.items():
        with pytest.raises(UnsupportedModel, match=words[1]):
            known_keys(efficientnet, {change: words[0]}, Path("folder"))


def test_weights_that_do_not_fit_are_named(made: tuple[Path, EfficientNetModel]) -> None:
    config = config_of(made[0])
    config["num_block_repeats"] = [*config["num_block_repeats"][:-1], 2]
    with pytest.raises(WeightsError, match=r"encoder\.blocks\.\d+"):
        read(efficientnet, config, made[0]).states("torch", pictures(1, 32, 32))


LITE0 = "efficientnet-lite0"
MARKER = "efficientnet-lite0-57934424.pth"


@pytest.fixture(scope="session")
def photographs() -> np.ndarray:
    """Real photographs, prepared as the model's facts say; the first is its example."""
    data = pytest.importorskip("skimage.data")
    facts = registry.known()[LITE0]["preprocessing"]
    size = facts["input_size"][1]
    short, prepared = int(size / facts["crop_pct"]), []
    for name in ("astronaut", "chelsea", "coffee"):
        image = Image.fromarray(getattr(data, name)())
        scale = short / min(image.size)
        image = image.resize([round(side * scale) for side in image.size], Image.Resampling.BICUBIC)
        left, top = ((side - size) // 2 for side in image.size)
        pixels = np.asarray(image.crop((left, top, left + size, top + size)), np.float32) / 255
        normal = (pixels - np.float32(facts["mean"])) / np.float32(facts["std"])
        prepared.append(normal.transpose(2, 0, 1))
    return np.ascontiguousarray(prepared, np.float32)


def test_the_real_lite0_equals_the_paper(lite0: Path, photographs: np.ndarray) -> None:
    config = registry.config_of_files(lite0)
    assert registry.family_of_config(config, lite0).name == "efficientnet"
    model = Stated("lite0", 1e-3, True).eval()
    model.load_state_dict(torch.load(lite0 / MARKER, weights_only=True))
    ours, expected = read(efficientnet, config, lite0 / MARKER), exact_states(model, photographs)
    for engine in ENGINES:
        check_states(ours.states(engine, photographs), expected, engine)


def test_the_real_lite0_is_what_its_facts_say(lite0: Path, photographs: np.ndarray) -> None:
    facts = registry.known()[LITE0]
    ours = read(efficientnet, registry.config_of_files(lite0), lite0 / MARKER)
    vectors = ours.vectors("openvino", photographs)
    assert vectors.shape == (3, facts["dim"])
    np.testing.assert_allclose(vectors[0, :5], facts["components"], atol=2e-5)
    head = weights.read(lite0 / MARKER)
    scores = vectors @ head["_fc.weight"].float32().T + head["_fc.bias"].float32()
    assert scores.argmax(1)[1:].tolist() == [282, 967]  # of ImageNet's classes: a tiger cat, an espresso
    # Statistics of its training tell how pictures were normalised: by another scale they would be those of others.
    stem = torch.from_numpy(head["_conv_stem.weight"].float32())
    seen = F.conv2d(F.pad(torch.from_numpy(photographs), (0, 1, 0, 1)), stem, stride=2).var((0, 2, 3)).numpy()
    then = head["_bn0.running_var"].float32()
    assert 0.5 < np.median(seen[then > 0] / then[then > 0]) < 2


def test_the_real_lite0_in_bfloat16(lite0: Path, photographs: np.ndarray) -> None:
    ours = read(efficientnet, registry.config_of_files(lite0), lite0 / MARKER)
    assert bfloat16_cosine(ours, "openvino", photographs).min() > 0.998
