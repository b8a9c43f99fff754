"""Writes models in the layout of sentence-transformers, which it and `load` can read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from omnivec import weights
from omnivec.errors import ModelError, UsageError
from omnivec.inputs.modality import get
from omnivec.inputs.text.tokenizer import load_tokenizer
from omnivec.models.folder import transformer_folder
from omnivec.models.head import HeadModule
from omnivec.models.model import Model
from omnivec.types import Floats
from omnivec.validation.json_files import write_json
from omnivec.weights.card import CARD, Training, card_of

# Small files that are copied: they determine how the model reads items, or are licences. All other files are written
# new, or describe the model that this one was made from: its card, its training data, its scores.
OF_TOKENIZER = (
    "added_tokens.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
    "*.model",
)
COPIED = (
    *OF_TOKENIZER,
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "LICENSE*",
    "NOTICE*",
)


def write_files(model: Model, folder: Path, training: Training | None) -> None:
    """Writes the files of a model into an empty folder, or a new one.

    Args:
        model: the model.
        folder: the folder.
        training: how it was trained, for its card; None for a model that is as it was published.

    Raises:
        ModelError: the files of the model's tokenizer are gone.
    """
    folder.mkdir(exist_ok=True)
    for source in (transformer_folder(model.folder), model.folder):
        for path in sorted({path for pattern in COPIED for path in source.glob(pattern)}):
            shutil.copyfile(path, folder / path.name)
    (folder / CARD).write_bytes(card_of(model.folder, model.stored, training))
    # The weights are written as float32, whatever they were read as, and readers rely on the dtype in the config.
    write_json(
        folder / "config.json",
        {k: v for k, v in model.published.items() if k != "torch_dtype"} | {"dtype": "float32"},
    )
    head_parts = tuple(f"{step.path}." for step in model.head.steps if step.path)
    body = {name: t.float32() for name, t in model.tensors.items() if not name.startswith(head_parts)}
    body |= {name: t.float32() for name, t in model.unused.items()}
    weights.save(folder / "model.safetensors", body, {"format": "pt"})
    if not get(model.preparer.modality).needs_tokenizer:
        if model.metric != "cosine":
            write_json(folder / "config_sentence_transformers.json", {"similarity_fn_name": model.metric})
        return  # the remaining files are only needed for texts
    _write_tokenizer(model, folder)
    settings: dict[str, Any] = {
        "prompts": dict(model.prompts),
        "default_prompt_name": model.default_prompt,
        "similarity_fn_name": model.metric,
    }
    if model.head.truncated is not None:
        settings["truncate_dim"] = model.head.truncated
    write_json(folder / "config_sentence_transformers.json", settings)
    if model.tower:
        return
    _write_head(model, folder)
    texts = model.texts
    limit = {"max_seq_length": texts.limit, "do_lower_case": texts.lower}
    write_json(folder / "sentence_bert_config.json", limit)


def _write_tokenizer(model: Model, folder: Path) -> None:
    """Writes the tokenizer of the model, if the copied files are missing or are those of another one."""
    tokenizer = model.texts.tokenizer
    if tokenizer.files() and _reads_as(folder, tokenizer.digest(), model.texts.lower):
        return
    for path in {path for pattern in OF_TOKENIZER for path in folder.glob(pattern)}:
        path.unlink()
    tokenizer.save(folder)


def _reads_as(folder: Path, digest: str, lower: bool) -> bool:
    try:
        return load_tokenizer(folder, lower=lower).digest() == digest
    except (ModelError, UsageError, OSError):
        return False


def _write_head(model: Model, folder: Path) -> None:
    head = model.head
    modules = [("Transformer", ""), ("Pooling", "1_Pooling")]
    (folder / "1_Pooling").mkdir()
    pooling = {
        "word_embedding_dimension": model.config.dim,
        "pooling_mode": list(head.pooling) if len(head.pooling) > 1 else head.pooling[0],
        "include_prompt": head.include_prompt,
    }
    write_json(folder / "1_Pooling" / "config.json", pooling)
    for step in head.steps:
        modules.append((step.kind, step.path))
        target = folder / step.path
        target.mkdir(parents=True, exist_ok=True)
        tensors = {
            n[len(step.path) + 1 :]: t.float32()
            for n, t in model.tensors.items()
            if n.startswith(step.path + ".")
        }
        if tensors:
            weights.save(target / "model.safetensors", tensors, {"format": "pt"})
        write_json(target / "config.json", _step_config(step, tensors) if tensors else {})
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{type_name}"}
        for i, (type_name, path) in enumerate(modules)
    ]
    write_json(folder / "modules.json", listed)


def _step_config(step: HeadModule, tensors: dict[str, Floats]) -> dict[str, Any]:
    """Returns the config.json that sentence-transformers expects for a module with weights."""
    if step.kind == "LayerNorm":
        return {"dimension": len(tensors["norm.weight"])}
    width, taken = tensors["linear.weight"].shape
    where = "linear" if step.activation == "Identity" else "activation"
    config: dict[str, Any] = {
        "in_features": taken,
        "out_features": width,
        "bias": "linear.bias" in tensors,
        "activation_function": f"torch.nn.modules.{where}.{step.activation}",
    }
    return config | ({"use_residual": True} if step.residual else {})
