"""A small sound file or folder for each reader of foreign data: what `fuzz.py` changes."""

from __future__ import annotations

import gzip
import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from omnivec.tables.io import write_table
from omnivec.tables.record import Subwords, Table
from omnivec.validation.json_files import write_json
from omnivec.weights import save

WORDS = ["[UNK]", "the", "cat", "dog", "Zürich", "日本", "sat", "mat"]


def _random(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def _tokenizer() -> bytes:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer.to_str().encode()


def _table(**parts: Any) -> Table:
    return Table(list(WORDS), _random(len(WORDS), 6), counts=np.arange(8, 0, -1), **parts)


def _written(form: str, **parts: Any) -> Callable[[Path], None]:
    return lambda path: write_table(path, _table(**parts), form)


def _gzipped(path: Path) -> None:
    _written("glove")(path)
    path.write_bytes(gzip.compress(path.read_bytes(), mtime=0))


def _fasttext(supervised: bool) -> Callable[[Path], None]:
    settings: dict[str, Any] = {"model": "supervised" if supervised else "skipgram", "word_ngrams": 2}
    settings |= {"loss": "softmax", "labels": ["__label__a", "__label__b"]} if supervised else {}
    output = _random(2 if supervised else len(WORDS), 6)
    grams = Subwords(_random(20, 6), 2, 4)
    return _written("fasttext-bin", subwords=grams, settings=settings, output=output, kind="fasttext")


def _gensim(path: Path) -> None:
    from gensim.models import FastText

    path.mkdir()
    model = FastText([WORDS[1:]] * 9, vector_size=6, min_count=1, bucket=20, workers=1, seed=1)
    model.save(str(path / "model"), sep_limit=0)


def _safetensors(path: Path) -> None:
    save(path, {"a": _random(4, 3), "b.weight": _random(5), "c": np.arange(6)}, {"format": "pt"})


def _shards(path: Path) -> None:
    path.mkdir()
    names = {f"model-{i}.safetensors": {f"layer.{i}.weight": _random(3, 3)} for i in (1, 2)}
    for name, tensors in names.items():
        save(path / name, tensors)
    index = {tensor: name for name, tensors in names.items() for tensor in tensors}
    write_json(path / "model.safetensors.index.json", {"metadata": {}, "weight_map": index})


def _torch(new: bool) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        import torch

        tensors = {"a": torch.tensor(_random(4, 3)), "b": torch.arange(5), "c": torch.ones(2, 2).T}
        torch.save({"state_dict": tensors, "step": 3}, path, _use_new_zipfile_serialization=new)

    return make


def _packed_torch(path: Path) -> None:
    _torch(True)(path)
    content = io.BytesIO()
    with zipfile.ZipFile(path) as stored, zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    path.write_bytes(content.getvalue())


def _npz(path: Path) -> None:
    with path.open("wb") as stream:
        np.savez_compressed(stream, a=_random(4, 3), b=np.arange(5))


def _npy(path: Path) -> None:
    path.mkdir()
    write_table(path / "v.npy", _table(), "npy")


def _bert(path: Path) -> None:
    path.mkdir()
    width = 8
    config = {"model_type": "bert", "hidden_size": width, "num_hidden_layers": 1, "num_attention_heads": 2}
    config |= {"intermediate_size": 16, "max_position_embeddings": 16, "vocab_size": len(WORDS)}
    config |= {"type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_act": "gelu", "pad_token_id": 0}
    write_json(path / "config.json", config)
    tensors = {
        "embeddings.word_embeddings.weight": _random(len(WORDS), width),
        "embeddings.position_embeddings.weight": _random(16, width),
        "embeddings.token_type_embeddings.weight": _random(2, width),
    }
    linear = {f"attention.self.{name}": (width, width) for name in ("query", "key", "value")}
    linear |= {"attention.output.dense": (width, width), "intermediate.dense": (16, width)}
    for name, shape in (linear | {"output.dense": (width, 16)}).items():
        tensors[f"encoder.layer.0.{name}.weight"] = _random(*shape)
        tensors[f"encoder.layer.0.{name}.bias"] = _random(shape[0])
    for name in ("embeddings", "encoder.layer.0.attention.output", "encoder.layer.0.output"):
        tensors[f"{name}.LayerNorm.weight"] = tensors[f"{name}.LayerNorm.bias"] = _random(width)
    save(path / "model.safetensors", tensors)
    (path / "tokenizer.json").write_bytes(_tokenizer())
    write_json(path / "tokenizer_config.json", {"model_max_length": 16, "do_lower_case": True})
    kinds = [("", "models.Transformer"), ("1_Pooling", "models.Pooling"), ("2_Normalize", "models.Normalize")]
    listed = [{"idx": i, "name": str(i), "path": place, "type": f"sentence_transformers.{kind}"}
              for i, (place, kind) in enumerate(kinds)]  # fmt: skip
    write_json(path / "modules.json", listed)
    (path / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True}
    write_json(path / "1_Pooling" / "config.json", pooling)
    write_json(path / "sentence_bert_config.json", {"max_seq_length": 16, "do_lower_case": False})
    write_json(
        path / "config_sentence_transformers.json", {"prompts": {"query": "q: "}, "similarity_fn_name": "dot"}
    )


def _joint(path: Path) -> None:
    path.mkdir()
    sides = {side: {"name": side, "layers": 1} for side in ("left", "right")}
    write_json(
        path / "config.json", {"model_type": "joint", "dim": 4, "metric": "cosine", "scale": 10.0, **sides}
    )
    heads = {f"{side}.0.{part}": _random(4, 6)[:, 0] if part == "bias" else _random(4, 6)
             for side in sides for part in ("weight", "bias")}  # fmt: skip
    save(path / "heads.safetensors", heads)
    for side in sides:
        write_table(path / side, _table(), "omnivec")


def _image(form: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        pixels = (np.indices((24, 32)).sum(0)[:, :, None] * [3, 5, 2] % 256).astype(np.uint8)
        Image.fromarray(pixels).save(path, form)

    return make


def _html(path: Path) -> None:
    page = (
        "<!doctype html><html><head><meta charset='utf-8'><title>T&auml;ler</title><style>p{}</style></head>"
    )
    page += "<body><h1>Head</h1><p>A <b>text</b> &#x41;&#66; with <a href='x'>a link</a>.<ul><li>1<li>2</ul>"
    path.write_text(page + "<script>if (a < b) {}</script><pre>  code </pre></body></html>", encoding="utf-8")


def _text(path: Path) -> None:
    path.write_text(
        "# -*- coding: utf-8 -*-\nEin Täxt.\n\n日本語 text, with words. And more!\n" * 5, encoding="utf-8"
    )


def _ignored(path: Path) -> None:
    (path / "sub" / "deep").mkdir(parents=True)
    (path / ".gitignore").write_text(
        "*.log\n!keep.log\n/build/\n**/deep/*.t?t\nsub/[a-c]*\n\\#x\n# note\nfoo\\ \n"
    )
    for name in ("a.txt", "keep.log", "sub/abc.md", "sub/deep/x.txt", "a" * 60):
        (path / name).write_text("text")


def _catalogue(path: Path) -> None:
    import omnivec
    from omnivec.models.keyed import KeyedEmbedder
    from omnivec.models.table import table_model

    folder = path.with_name(f"{path.name}-model")
    write_table(folder, _table(), "omnivec")
    model = KeyedEmbedder(table_model(_table(), folder, True), "words", "made")
    with omnivec.Collection(path, model=model) as notes:
        notes.add(
            ["the cat sat", "dog mat Zürich", "日本 cat"],
            ids=["a", "b", "c"],
            metadata=[{"n": i} for i in range(3)],
        )


def _pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"gensim.": [1, "a", (2.5, None)], "b": {"c": b"x" * 20}}, 2))


SEEDS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "word2vec text": ("table", _written("word2vec-text")),
    "word2vec binary": ("table", _written("word2vec-binary")),
    "GloVe": ("table", _written("glove")),
    "GloVe in gzip": ("table", _gzipped),
    "fastText": ("table", _fasttext(False)),
    "fastText classifier": ("table", _fasttext(True)),
    "gensim": ("gensim", _gensim),
    "npz table": ("table", _written("npz")),
    "npy table": ("npy", _npy),
    "Parquet table": ("table", _written("parquet")),
    "model2vec": ("load", _written("model2vec", tokenizer=_tokenizer(), settings={"normalize": True})),
    "StaticEmbedding": ("load", _written("static-embedding", tokenizer=_tokenizer())),
    "omnivec table": ("load", _written("omnivec", subwords=Subwords(_random(20, 6), 2, 4), kind="fasttext")),
    "safetensors": ("safetensors", _safetensors),
    "shards": ("weights", _shards),
    "torch": ("weights", _torch(True)),
    "torch, packed": ("weights", _packed_torch),
    "torch, old": ("weights", _torch(False)),
    "npz": ("weights_npz", _npz),
    "pickle": ("gensim_pickle", _pickled),
    "model folder": ("load", _bert),
    "joint folder": ("load", _joint),
    "PNG": ("image", _image("PNG")),
    "JPEG": ("image", _image("JPEG")),
    "GIF": ("image", _image("GIF")),
    "WebP": ("image", _image("WEBP")),
    "BMP": ("image", _image("BMP")),
    "TIFF": ("image", _image("TIFF")),
    "HTML": ("html", _html),
    "text": ("text", _text),
    "ignore file": ("ignore", _ignored),
    "catalogue": ("catalogue", _catalogue),
}
"""Reader -> what `fuzz_worker.py` calls it by, and what makes a sound file or folder."""
