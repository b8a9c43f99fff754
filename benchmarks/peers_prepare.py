"""The forms of a model that the peers read, made from its folder: python benchmarks/peers_prepare.py MODEL PLACE.

A form that cannot be made is said and left out; its peers then say that it is missing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from peers import LIMIT, LOCAL, Place

COPIED = ("tokenizer.json", "tokenizer_config.json")


def write_model(place: Place) -> None:
    """The folder again, by links; its two tokenizer files say 128 and 512, where the model was trained with 256."""
    place.model.mkdir()
    for path in place.original.iterdir():
        if path.name not in (*COPIED, "onnx"):
            (place.model / path.name).symlink_to(path.resolve())
    tokenizer, config = (json.loads((place.original / name).read_text("utf-8")) for name in COPIED)
    cut = {"direction": "Right", "max_length": LIMIT, "strategy": "LongestFirst", "stride": 0}
    if isinstance(tokenizer["padding"], dict):
        tokenizer["padding"]["strategy"] = "BatchLongest"
    changed = ({**tokenizer, "truncation": cut}, {**config, "model_max_length": LIMIT})
    for name, content in zip(COPIED, changed, strict=True):
        (place.model / name).write_text(json.dumps(content), "utf-8")


def write_hub(place: Place) -> None:
    """A hub's cache with the folder in it."""
    entry = place.hub / f"models--{LOCAL.replace('/', '--')}"
    (entry / "refs").mkdir(parents=True)
    (entry / "refs" / "main").write_text("local", "utf-8")
    (entry / "snapshots").mkdir()
    (entry / "snapshots" / "local").symlink_to(place.model.resolve())


def write_onnx(place: Place) -> None:
    """The graph of the hidden states, exported by torch and held to it."""
    import numpy as np
    import onnxruntime
    import torch
    from transformers import AutoModel

    class States(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = AutoModel.from_pretrained(place.original)

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            return self.model(input_ids, attention_mask, token_type_ids).last_hidden_state

    names = ("input_ids", "attention_mask", "token_type_ids")
    ids = torch.arange(1000, 1032).reshape(2, 16)
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0  # without padding in its example, the exporter drops the mask
    sizes = {0: torch.export.Dim("n"), 1: torch.export.Dim("t", max=512)}
    file = place.model / "onnx" / "model.onnx"
    file.parent.mkdir()
    states, example = States().eval(), (ids, mask, torch.zeros_like(ids))
    torch.onnx.export(
        states,
        example,
        file,
        input_names=names,
        output_names=["last_hidden_state"],
        dynamic_shapes=dict.fromkeys(names, sizes),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    # Longer than the example, and with padding elsewhere.
    wide = torch.cat([ids, ids + 50], 1)
    mask = torch.ones_like(wide)
    mask[0, 20:] = 0
    fed = (wide, mask, torch.zeros_like(wide))
    found = onnxruntime.InferenceSession(file).run(
        None, {name: array.numpy() for name, array in zip(names, fed, strict=True)}
    )[0]
    with torch.inference_mode():
        error = np.abs(found - states(*fed).numpy())[mask.numpy() > 0].max()
    if error > 1e-4:
        file.unlink()
        raise ValueError(f"the exported graph is off by {error:.1e}")


def write_ct2(place: Place) -> None:
    """CTranslate2's form, by its own converter."""
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(place.original)).convert(str(place.ct2))


def main(model: Path, root: Path) -> None:
    """Makes all forms."""
    place = Place(root)
    place.original.symlink_to(model.resolve())
    for step in (write_model, write_hub, write_onnx, write_ct2):
        try:
            step(place)
        except Exception as error:
            print(f"{step.__name__}: {type(error).__name__}: {str(error)[:200]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
