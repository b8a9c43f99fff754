"""Images to vectors: omnivec against transformers on torch, the same weights, the same cores, in one process.

    python benchmarks/image_encode.py [--quick] [--images 32] [--repetitions 3] [--model NAME ...] [--threads N]

Weights are random, and such that what tells one image from another survives to the last layer; vectors are compared
without what all images share, or any two would look alike. Every repetition takes fresh images and gives them to each
engine in turn, in one batch size for all. Two sources: `arrays`, the model's pixels in memory, what the network alone
takes (ours are uint8 and normalised in the graph); and `files`, JPEG photographs of 640 x 480 from disk to vectors, of
which `decoding` is the share of the CPU seconds that reading and resizing takes. Ratios are medians over the
repetitions of (torch / engine) for the same images: above 1 is faster. On a shared machine trust `ratio_cpu`.
`peak_part` is the network's arithmetic by the fastest matrix product that was measured in the same run in the engine's
precision. A model that cannot run has a row that says why.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import re
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import machine
from machine import Spent, significant
from omnivec import weights
from omnivec.errors import OmnivecError
from omnivec.inputs.image.image import ImagePreparer, normalized
from omnivec.inputs.image.published import read_processing
from omnivec.models.model import read_config
from omnivec.ops.base import EngineSettings, Executable, Ops, Params, Value
from peers_peak import counted_flops

LEAST_COSINE = 0.999
BASE = "torch float32"
SIZE = 224
PHOTOGRAPH = (480, 640)  # height, width
Vectors = NDArray[np.float32]
Items = Any

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
PREPROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": 256},
    "crop_size": {"height": SIZE, "width": SIZE},
    **IMAGENET,
}


@dataclass(frozen=True)
class Subject:
    """A model that is compared.

    Attributes:
        family: of omnivec.
        model: transformers' class, its config's without the end "Model".
        settings: of the config, where they are not the published model's already.
        gain: variance of a weight times its fan-in: 2 before a ReLU.
        forward: the family's function for images.
        quiet: norms whose branches add a fifth of what they else would: about as training leaves them. Deep networks
            of random weights otherwise blow rounding up, which no trained one does.
        pool: of ours: (ops, tokens) -> (n, d).
        vectors: of theirs: (model, pixels) -> (n, d).
    """

    family: str
    model: str
    settings: Mapping[str, Any]
    gain: float
    pool: Callable[[Ops, Value], Value]
    vectors: Callable[[Any, Any], Any]
    forward: str = "forward"
    quiet: str = "^$"


def first(ops: Ops, x: Value) -> Value:
    """The first token."""
    return x[:, 0]


def mean(ops: Ops, x: Value) -> Value:
    """The mean over all places."""
    return ops.mean(x, 1)


TEXT_TOWER = {"num_hidden_layers": 1, "hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 1}
SUBJECTS = {
    "ViT-B/32": Subject(
        "vit", "ViTModel", {"patch_size": 32}, 1, first, lambda m, x: m(x).last_hidden_state[:, 0]
    ),
    "ResNet-50": Subject(
        "resnet",
        "ResNetModel",
        {},
        2,
        mean,
        lambda m, x: m(x).pooler_output.flatten(1),
        quiet=r"layer\.2\.normalization$",
    ),
    "EfficientNet-B0": Subject(
        "efficientnet",
        "EfficientNetModel",
        # The config's own defaults are those of B7.
        {"image_size": SIZE, "width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280},
        2,
        mean,
        lambda m, x: m(x).pooler_output.flatten(1),
    ),
    "CLIP ViT-B/32, images": Subject(
        "clip",
        "CLIPModel",
        {"vision_config": {"patch_size": 32}, "text_config": TEXT_TOWER},
        1,
        first,
        lambda m, x: m.get_image_features(x).pooler_output,
        "forward_image",
    ),
}


def publish(subject: Subject, folder: Path) -> Any:
    """A checkpoint of random weights in `folder`, and transformers' model of it."""
    import torch
    import transformers

    config = getattr(transformers, subject.model.removesuffix("Model") + "Config")(**subject.settings)
    model = getattr(transformers, subject.model)(config)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, p in model.named_parameters():
            table = "embedding" in name and "patch" not in name
            if p.ndim > 1:
                spread = 0.5 if table else (subject.gain / p[0].numel()) ** 0.5
                p.copy_(torch.randn(p.shape, generator=generator) * spread)
        settle(model, normal(shapes(np.random.default_rng(1), 8, SIZE, SIZE)), subject.quiet)
    model.eval().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    return model


def settle(model: Any, pixels: Any, quiet: str) -> None:
    """Gives batch norms the statistics of what comes in, as training does."""
    import torch

    norms = {name: part for name, part in model.named_modules() if isinstance(part, torch.nn.BatchNorm2d)}
    for name, norm in norms.items():
        if re.search(quiet, name):
            norm.weight *= 0.2
        norm.momentum = None  # the plain mean of what it sees
        norm.train()
    if norms:
        model(pixels)


def shapes(rng: np.random.Generator, count: int, height: int, width: int) -> NDArray[np.uint8]:
    """Pictures (n, h, w, 3): large shapes under some noise, each with a colour and a contrast of its own."""
    coarse = rng.standard_normal((count, 6, 6, 3)) + rng.standard_normal((count, 1, 1, 3))
    rows, columns = (np.arange(size) * 6 // size for size in (height, width))
    fine = coarse[:, rows][:, :, columns] + 0.2 * rng.standard_normal((count, height, width, 3))
    return np.clip(128 + 50 * fine, 0, 255).astype(np.uint8)


def normal(pixels: NDArray[np.uint8]) -> Any:
    """Pixels (n, h, w, 3) as torch takes them: (n, 3, h, w) float32, normalised."""
    import torch

    mean, std = (np.array(IMAGENET[f"image_{name}"], np.float32) for name in ("mean", "std"))
    x = (pixels.astype(np.float32) / 255 - mean) / std
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def photographs(folder: Path, rng: np.random.Generator, count: int) -> list[Path]:
    """JPEG files, as cameras and web sites write them."""
    from PIL import Image

    folder.mkdir()
    paths = [folder / f"{i}.jpg" for i in range(count)]
    for path, picture in zip(paths, shapes(rng, count, *PHOTOGRAPH), strict=True):
        Image.fromarray(picture).save(path, quality=90)
    return paths


class Ours:
    """A family's graph in one precision."""

    def __init__(self, subject: Subject, folder: Path, settings: EngineSettings) -> None:
        from omnivec.ops import openvino

        family: Any = importlib.import_module(f"omnivec.families.{subject.family}")
        published = json.loads((folder / "config.json").read_text())
        config = read_config(family, published, folder)
        stored = weights.strip_prefixes(weights.read(folder), family.PREFIXES)
        tensors: Mapping[str, Any] = weights.rename(stored, family.LAYOUTS)
        if hasattr(family, "adapt_weights"):
            tensors, config = family.adapt_weights(tensors, config)
        self.preparer = ImagePreparer(read_processing(folder), threads=settings.threads)

        def program(ops: Ops, get: Callable[[str], Value], p: Params) -> dict[str, Value]:
            processing = self.preparer.processing
            pixels = normalized(ops, get("pixels"), processing)
            batch = SimpleNamespace(pixels=pixels, size=processing.size)
            return {"vectors": subject.pool(ops, getattr(family, subject.forward)(ops, p, config, batch))}

        self.graph: Executable = openvino.compile_program(program, self.preparer.inputs, tensors, settings)

    def prepare(self, paths: Sequence[Path]) -> NDArray[np.uint8]:
        """Files to what `compute` takes."""
        pictures = [self.preparer.decode(path) for path in paths]
        rows = [row for (row,) in self.preparer.prepare(pictures)]
        return np.asarray(self.preparer.collate(rows)["pixels"])

    def take(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Pixels to what `compute` takes; not measured."""
        return pixels

    def compute(self, pixels: NDArray[np.uint8]) -> Vectors:
        """A batch."""
        return self.graph.run({"pixels": pixels})["vectors"]


class Theirs:
    """transformers on torch, in float32."""

    def __init__(self, subject: Subject, model: Any) -> None:
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

        self.subject, self.model = subject, model
        self.processor = CLIPImageProcessorPil(**{k: v for k, v in PREPROCESSOR.items() if "type" not in k})

    def prepare(self, paths: Sequence[Path]) -> Any:
        """Files to what `compute` takes."""
        from PIL import Image

        pictures = [Image.open(io.BytesIO(path.read_bytes())).convert("RGB") for path in paths]
        return self.processor(images=pictures, return_tensors="pt")["pixel_values"]

    def take(self, pixels: NDArray[np.uint8]) -> Any:
        """Pixels to what `compute` takes; not measured."""
        return normal(pixels)

    def compute(self, pixels: Any) -> Vectors:
        """A batch."""
        import torch

        with torch.inference_mode():
            return np.asarray(self.subject.vectors(self.model, pixels).numpy())


@dataclass
class Measured:
    """What one engine did with one source, by repetition."""

    preparing: list[Spent] = field(default_factory=list)
    computing: list[Spent] = field(default_factory=list)
    vectors: list[Vectors] = field(default_factory=list)

    def total(self, clock: str) -> list[float]:
        """Seconds of each repetition."""
        pairs = zip(self.preparing, self.computing, strict=True)
        return [getattr(a, clock) + getattr(b, clock) for a, b in pairs]


Engines = Mapping[str, Ours | Theirs]


def measure(engines: Engines, source: str, asked: argparse.Namespace, place: Path) -> dict[str, Measured]:
    """All engines on one source, in turns, batch by batch."""
    found = {name: Measured() for name in engines}
    for one in engines.values():  # what compiles or allocates at the first call is not counted
        one.compute(one.take(shapes(np.random.default_rng(0), asked.batch, SIZE, SIZE)))
    rngs = [np.random.default_rng(100 + repetition) for repetition in range(asked.repetitions)]
    if source == "files":
        inputs: list[Items] = [photographs(place / str(i), rng, asked.images) for i, rng in enumerate(rngs)]
    else:
        inputs = [shapes(rng, asked.images, SIZE, SIZE) for rng in rngs]
    for repetition, name in machine.in_turns(list(engines), asked.repetitions):
        own, one = found[name], engines[name]
        preparing, computing, vectors = [], [], []
        for start in range(0, asked.images, asked.batch):
            items = inputs[repetition][start : start + asked.batch]
            if source == "files":
                ready, took = machine.spent(partial(one.prepare, items))
                preparing.append(took)
            else:
                ready = one.take(items)
            done, took = machine.spent(partial(one.compute, ready))
            computing.append(took)
            vectors.append(done)
        own.vectors.append(np.concatenate(vectors))
        for kept, parts in ((own.preparing, preparing), (own.computing, computing)):
            kept.append(Spent(sum(part.wall for part in parts), sum(part.cpu for part in parts)))
    return found


def cosines(a: Sequence[Vectors], b: Sequence[Vectors]) -> NDArray[np.float64]:
    """Of each image's two vectors, both without the mean of all images' second."""
    x, y = (np.concatenate(parts).astype(np.float64) for parts in (a, b))
    x, y = x - y.mean(0), y - y.mean(0)
    return np.asarray((x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1))


FIGURES = (
    *("images_per_s", "ratio_wall", "cpu_s", "ratio_cpu", "ratio_cpu_low", "ratio_cpu_high"),
    *("decoding", "gflops", "peak_part", "cosine_mean", "cosine_min"),
)


def operations(subject: Subject, model: Any) -> float:
    """Operations of an image in the network."""
    import torch

    with torch.inference_mode():
        return counted_flops(partial(subject.vectors, model, torch.zeros(1, 3, SIZE, SIZE)))


def row(
    model: str, source: str, name: str, work: tuple[int, float, int], found: Mapping[str, Measured]
) -> dict[str, Any]:
    """One line of the result; `work` is images, operations of each, and threads."""
    images, flops, threads = work
    rate = images * flops / statistics.median(took.wall for took in found[name].computing) / 1e9
    peak = machine.peaks(threads)["bfloat16" if name.endswith("bfloat16") else "float32"]
    own, base = found[name], found[BASE]
    walls, cpus = own.total("wall"), own.total("cpu")
    by_wall = [b / o for b, o in zip(base.total("wall"), walls, strict=True)]
    by_cpu = [b / o for b, o in zip(base.total("cpu"), cpus, strict=True)]
    near = cosines(own.vectors, base.vectors)
    # A reduced JPEG is not quite what a whole one is, resized: of files the network is not held to its reference.
    least = LEAST_COSINE if source == "arrays" else 0.99
    figures = (
        significant(images / statistics.median(walls)),
        *(significant(value, 3) for value in (statistics.median(by_wall), statistics.median(cpus))),
        *(significant(value, 3) for value in (statistics.median(by_cpu), min(by_cpu), max(by_cpu))),
        significant(sum(took.cpu for took in own.preparing) / sum(cpus), 3),
        significant(rate, 3),
        significant(rate / peak, 3),
        round(float(near.mean()), 6),
        round(float(near.min()), 6),
    )
    status = "ok" if near.min() >= least else f"a cosine of {near.min():.5f} is below {least}"
    return blank(model, source, name, images, status) | dict(zip(FIGURES, figures, strict=True))


def blank(model: str, source: str, name: str, images: int, status: str) -> dict[str, Any]:
    """A line without figures."""
    said = {"model": model, "source": source, "engine": name, "images": images}
    return {**said, **dict.fromkeys(FIGURES, ""), "status": status}


def compare(name: str, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """The lines of one model."""
    subject = SUBJECTS[name]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        try:
            model = publish(subject, folder)
            engines: dict[str, Ours | Theirs] = {BASE: Theirs(subject, model)}
            for precision in asked.precisions:
                settings = EngineSettings(precision, threads=asked.threads)
                engines[f"omnivec {precision}"] = Ours(subject, folder, settings)
        except (ImportError, OmnivecError) as error:
            return [blank(name, "", "", 0, f"skipped: {error}")]
        lines = []
        for source in ("arrays", "files"):
            found = measure(engines, source, asked, Path(place))
            work = (asked.images, operations(subject, model), asked.threads)
            lines += [row(name, source, engine, work, found) for engine in engines]
    return lines


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="8 images, 2 repetitions")
    parser.add_argument("--images", type=int, default=32, help="in a repetition")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repetitions", "--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=machine.cores(), help="of every engine")
    parser.add_argument("--model", action="append", default=[], choices=list(SUBJECTS), help="only this one")
    parser.add_argument("--out", type=Path, default=machine.RESULTS / "image_encode.csv")
    asked = parser.parse_args()
    if asked.quick:
        asked.images, asked.batch, asked.repetitions = 8, 8, 2
    return asked


def main() -> None:
    """Reads the arguments, measures, prints and writes."""
    asked = arguments()
    import torch

    from omnivec.ops.openvino import cpu_can_bfloat16

    torch.set_num_threads(asked.threads)
    asked.precisions = ["float32", "bfloat16"] if cpu_can_bfloat16() else ["float32"]
    rows = [line for name in asked.model or SUBJECTS for line in compare(name, asked)]
    rows = [{**line, "batch": asked.batch, "threads": asked.threads} for line in rows]
    hidden = ("images", "batch", "threads", "ratio_cpu_low", "ratio_cpu_high")
    machine.print_table(rows, [column for column in rows[0] if column not in hidden])
    machine.write_csv(asked.out, rows, ("model", "source", "engine", "threads", "cpu"), asked.threads)


if __name__ == "__main__":
    main()
