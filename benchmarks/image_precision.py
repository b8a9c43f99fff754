"""What bfloat16 costs a model of images on real photographs: 1 - cosine to its own vectors in float32.

    python benchmarks/image_precision.py [--model efficientnet-lite0] [--out benchmarks/results/image_precision.csv]

Photographs are those of scikit-image and scikit-learn. Beside them a plain grey picture and noise: what a trial could
make up, and what says little of photographs.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import machine
import omnivec
from machine import significant

SIDE = 256


def photographs() -> list[Image.Image]:
    """Pictures of at least 128 pixels a side that the two packages ship."""
    found = []
    for package, folder in (("skimage", "data"), ("sklearn", "datasets/images")):
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            continue
        for path in sorted((Path(spec.origin).parent / folder).iterdir()):
            if path.suffix in (".png", ".jpg", ".jpeg"):
                image = Image.open(path)
                if min(image.size) >= 128:
                    found.append(image.convert("RGB"))
    return found


def main() -> None:
    """Embeds twice, prints and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--out", type=Path, default=machine.RESULTS / "image_precision.csv")
    asked = parser.parse_args()
    noise = np.random.default_rng(0).integers(0, 256, (8, SIDE, SIDE, 3)).astype(np.uint8)
    shown: dict[str, list[Image.Image] | list[NDArray[np.uint8]]] = {
        "photographs": photographs(),
        "noise": list(noise),
        "plain grey": [np.full((SIDE, SIDE, 3), 128, np.uint8)],
    }
    models = [omnivec.load(asked.model, precision=precision) for precision in ("float32", "bfloat16")]
    rows = []
    for kind, pictures in shown.items():
        exact, half = (model.encode(pictures).astype(np.float64) for model in models)
        norms = np.linalg.norm(exact, axis=1) * np.linalg.norm(half, axis=1)
        lost = 1 - (exact * half).sum(1) / norms
        rows.append(
            {
                "model": asked.model,
                "pictures": kind,
                "count": len(pictures),
                "lost_mean": significant(float(lost.mean()), 2),
                "lost_most": significant(float(lost.max()), 2),
            }
        )
    machine.print_table(rows, list(rows[0]))
    machine.write_csv(asked.out, rows)


if __name__ == "__main__":
    main()
