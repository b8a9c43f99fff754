"""Real photographs, from the packages scikit-image and scikit-learn: no two of one scene."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

_OF = {
    "skimage": (
        "data",
        "astronaut.png brick.png camera.png cell.png chelsea.png clock_motion.png coffee.png coins.png grass.png "
        "gravel.png horse.png hubble_deep_field.jpg ihc.png logo.png moon.png motorcycle_left.png page.png retina.jpg "
        "rocket.jpg text.png color.png",
    ),
    "sklearn": ("datasets/images", "china.jpg flower.jpg"),
}


def paths() -> dict[str, Path]:
    """Name without its suffix -> file. The test that asks is skipped where a package is not installed."""
    found = {}
    for package, (folder, names) in _OF.items():
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            pytest.skip(f"{package} is not installed: it holds photographs")
        for name in names.split():
            found[name.partition(".")[0]] = Path(spec.origin).parent / folder / name
    return found


def rgb(name: str) -> Image.Image:
    """A photograph as a PIL image in RGB, transparent places white."""
    image: Image.Image = Image.open(paths()[name])
    if "A" in image.getbands():
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The bytes of an image's file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def enlarged(name: str, width: int = 4032, height: int = 3024, grain: float = 5.0) -> Image.Image:
    """A photograph at a camera's size, with a film's grain instead of the detail that it lacks."""
    big = np.asarray(rgb(name).resize((width, height), Image.Resampling.BICUBIC), np.float32)
    noise = np.random.default_rng(0).normal(0, grain, (height, width, 1)).astype(np.float32)
    return Image.fromarray(np.clip(big + noise, 0, 255).astype(np.uint8))
