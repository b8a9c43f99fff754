"""Writes adapters.npz: adapters as peft saves them, and what their models give (see tests/weights/adapter_bases.py).

Run with peft 0.21 beside torch and transformers:

    pip install --no-deps peft accelerate
    python tests/golden/make_adapters.py
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "helpers"))

QV = {"target_modules": ["query", "value"]}
# Name -> its base, and what peft is told.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("bert", QV | {"r": 3, "lora_alpha": 7}),
    "rslora": ("bert", QV | {"r": 4, "lora_alpha": 2, "use_rslora": True}),
    "patterns": (
        "bert",
        {"target_modules": "all-linear", "r": 2, "lora_alpha": 3}
        | {
            "rank_pattern": {"query": 5, "layer.1.output.dense": 1},
            "alpha_pattern": {"layer.0.attention.self.key": 9},
        },
    ),
    "a regular expression": ("bert", {"target_modules": r".*layer\.1\.attention\.self\.(query|key)", "r": 3}),
    "one layer": ("bert", QV | {"r": 3, "layers_to_transform": [1]}),
    "modules to save": ("bert", QV | {"r": 3, "modules_to_save": ["intermediate"]}),
    "all biases": ("bert", QV | {"r": 3, "bias": "all"}),
    "their own biases": ("bert", QV | {"r": 3, "bias": "lora_only"}),
    "a bias of their own": ("bert", QV | {"r": 3, "lora_bias": True}),
    "dora": ("bert", QV | {"r": 3, "lora_alpha": 5, "use_dora": True}),
    "embeddings": ("bert", {"target_modules": ["word_embeddings", "key"], "r": 3, "lora_alpha": 5}),
    "behind a head": ("bert with a head", QV | {"r": 3}),
    "conv1d": ("gpt2", {"target_modules": ["c_attn", "c_proj"], "r": 3, "fan_in_fan_out": True}),
    "conv1d, unsaid": ("gpt2", {"target_modules": r".*attn\.c_proj", "r": 3}),
    "conv1d, dora": ("gpt2", {"target_modules": ["c_attn", "c_proj", "wte"][:2], "r": 3, "use_dora": True}),
    "causal": (
        "mistral with a head",
        {"target_modules": ["q_proj", "v_proj", "down_proj"], "r": 3, "task_type": "CAUSAL_LM"},
    ),
}


def main() -> None:
    import peft
    from safetensors.numpy import load_file

    import adapter_bases as bases

    arrays: dict[str, Any] = {}
    for i, (name, (base, settings)) in enumerate(CASES.items()):
        model = peft.get_peft_model(bases.network(base), peft.LoraConfig(**settings))
        bases.fill(model, i + 1)
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            tensors = load_file(f"{folder}/adapter_model.safetensors")
            config = json.loads(Path(folder, "adapter_config.json").read_text())
        arrays |= {f"{name}/{key}": value for key, value in tensors.items()}
        arrays[f"{name}#config"] = np.array(json.dumps(config | {"base_model_name_or_path": None}))
        arrays[f"{name}#base"] = np.array(base)
        arrays[f"{name}#states"] = bases.states(model.eval())
        print(name, len(tensors), np.abs(arrays[f"{name}#states"] - bases.states(bases.network(base))).max())
    np.savez_compressed(HERE / "adapters.npz", **arrays)


if __name__ == "__main__":
    main()
