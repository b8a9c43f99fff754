"""Models written in sentence-transformers' layout: what others and `load` read back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from omnivec import weights
from omnivec.files import replacing, write_json
from omnivec.head import Head
from omnivec.media.image import ImagePreparer
from omnivec.model import Model, transformer_folder

# Small files that travel with a model; weights are written anew.
COPIED = ("*.json", "vocab.txt", "merges.txt", "*.model", "README.md", "LICENSE*")


def write_model(model: Model, folder: Path) -> Path:
    """Writes a model to a folder, whole or not at all; an older model there is replaced.

    Raises:
        ModelError: the folder holds something that is no model, or cannot be written.
    """
    folder = folder.expanduser()
    with replacing(folder) as scratch:
        scratch.mkdir()
        _write(model, scratch)
    return folder


def _write(model: Model, scratch: Path) -> None:
    for source in {model.folder, transformer_folder(model.folder)}:
        for pattern in COPIED:
            for path in sorted(source.glob(pattern)):
                if not path.name.endswith(".index.json"):
                    shutil.copyfile(path, scratch / path.name)
    # The weights are written as float32, whatever they were read as: readers go by what the config says.
    write_json(
        scratch / "config.json",
        {k: v for k, v in model.published.items() if k != "torch_dtype"} | {"dtype": "float32"},
    )
    head_parts = tuple(f"{step.path}." for step in model.head.steps if step.path)
    body = {name: t.float32() for name, t in model.tensors.items() if not name.startswith(head_parts)}
    weights.save(scratch / "model.safetensors", body, {"format": "pt"})
    if model.tower or isinstance(model.preparer, ImagePreparer):
        return  # Nothing follows that the folder would have to say.
    _write_head(model, model.head, scratch)
    texts = model.texts
    if not texts.tokenizer.files():
        texts.tokenizer.save(scratch)
    limit = {"max_seq_length": texts.limit, "do_lower_case": texts.lower}
    write_json(scratch / "sentence_bert_config.json", limit)
    card = {
        "prompts": dict(model.prompts),
        "default_prompt_name": model.default_prompt,
        "similarity_fn_name": model.metric,
    }
    write_json(scratch / "config_sentence_transformers.json", card)


def _write_head(model: Model, head: Head, scratch: Path) -> None:
    modules = [("Transformer", ""), ("Pooling", "1_Pooling")]
    (scratch / "1_Pooling").mkdir()
    pooling = {
        "word_embedding_dimension": model.config.dim,
        "pooling_mode": list(head.pooling) if len(head.pooling) > 1 else head.pooling[0],
        "include_prompt": head.include_prompt,
    }
    write_json(scratch / "1_Pooling" / "config.json", pooling)
    for step in head.steps:
        modules.append((step.kind, step.path))
        target = scratch / step.path
        target.mkdir()
        own = {
            n[len(step.path) + 1 :]: t.float32()
            for n, t in model.tensors.items()
            if n.startswith(step.path + ".")
        }
        if own:
            weights.save(target / "model.safetensors", own, {"format": "pt"})
        write_json(target / "config.json", _step_config(model, step.path) if own else {})
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(modules)
    ]
    write_json(scratch / "modules.json", listed)


def _step_config(model: Model, path: str) -> object:
    return json.loads((model.folder / path / "config.json").read_text(encoding="utf-8"))
