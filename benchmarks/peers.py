"""The libraries that text_encode.py compares, each loaded from local folders with its best settings.

A worker process imports this file with the Python of that library's own environment, so nothing but the standard
library and NumPy is imported at its top.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LIMIT = 256
LOCAL = "local/all-MiniLM-L6-v2"
Vectors = NDArray[np.float32]
Encode = Callable[[list[str], int], Vectors]


@dataclass(frozen=True)
class Place:
    """Where the model lies in the forms that the peers read; made by peers_prepare.py.

    Attributes:
        root: the folder of all of them.
    """

    root: Path

    @property
    def original(self) -> Path:
        """The folder as published."""
        return self.root / "original"

    @property
    def model(self) -> Path:
        """The same with onnx/model.onnx, and the limit of 256 tokens where every peer looks for it."""
        return self.root / "model"

    @property
    def ct2(self) -> Path:
        """CTranslate2's form of it."""
        return self.root / "ct2"

    @property
    def hub(self) -> Path:
        """A hub's cache that holds it, for a peer that takes no folder."""
        return self.root / "hub"


@dataclass(frozen=True)
class Loaded:
    """An engine that is ready: encode(texts, rows in a batch) -> (n, dim), and its precision."""

    encode: Encode
    precision: str


@dataclass(frozen=True)
class Peer:
    """One row of the comparison.

    Attributes:
        name: of the row.
        environment: which `--peer` option names its Python.
        load: makes it ready for so many threads.
        packages: whose versions belong to its row.
        batches: rows in a batch to choose from; 0 for a library that fills batches by itself.
        named_only: too slow for every run: measured where `--engine` names it.
    """

    name: str
    environment: str
    load: Callable[[Place, int], Loaded]
    packages: tuple[str, ...]
    batches: tuple[int, ...] = (32, 128)
    named_only: bool = False


def omnivec(precision: str | None) -> Callable[[Place, int], Loaded]:
    """This library, with a precision or with its own choice."""

    def load(place: Place, threads: int) -> Loaded:
        from omnivec import load as load_model

        model = load_model(place.original, threads=threads, precision=precision)
        return Loaded(lambda texts, _: model.encode(texts), model.card["precision"])

    return load


def sentence_transformers(dtype: str) -> Callable[[Place, int], Loaded]:
    """sentence-transformers on torch."""

    def load(place: Place, threads: int) -> Loaded:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(threads)
        options = {} if dtype == "float32" else {"dtype": getattr(torch, dtype)}
        model = SentenceTransformer(str(place.original), device="cpu", model_kwargs=options)

        def encode(texts: list[str], rows: int) -> Vectors:
            # bfloat16 has no NumPy form: out as a tensor, then widened.
            return np.asarray(model.encode(texts, batch_size=rows, convert_to_tensor=True).float().numpy())

        return Loaded(encode, dtype)

    return load


def sentence_transformers_onnx(place: Place, threads: int) -> Loaded:
    """sentence-transformers on onnxruntime, through optimum."""
    import onnxruntime
    from sentence_transformers import SentenceTransformer

    session = onnxruntime.SessionOptions()
    session.intra_op_num_threads = threads
    options = {"provider": "CPUExecutionProvider", "export": False, "session_options": session}
    model = SentenceTransformer(str(place.model), device="cpu", backend="onnx", model_kwargs=options)
    return Loaded(lambda texts, rows: np.asarray(model.encode(texts, batch_size=rows)), "float32")


def fastembed(place: Place, threads: int) -> Loaded:
    """fastembed on the exported graph, as a model of one's own."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    TextEmbedding.add_custom_model(
        model=LOCAL,
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(hf=LOCAL),
        dim=384,
        model_file="onnx/model.onnx",
    )
    model = TextEmbedding(LOCAL, specific_model_path=str(place.model), threads=threads)
    return Loaded(lambda texts, rows: np.array(list(model.embed(texts, batch_size=rows))), "float32")


def infinity(dtype: str) -> Callable[[Place, int], Loaded]:
    """infinity's engine in the process, without its HTTP server; an engine for each size of batch."""

    def load(place: Place, threads: int) -> Loaded:
        import torch
        from infinity_emb import EngineArgs, SyncEngineArray

        torch.set_num_threads(threads)
        engines: dict[int, Any] = {}

        def encode(texts: list[str], rows: int) -> Vectors:
            if rows not in engines:
                arguments = EngineArgs(
                    model_name_or_path=str(place.original),
                    engine="torch",
                    device="cpu",
                    dtype=dtype,
                    batch_size=rows,
                    model_warmup=False,
                    bettertransformer=False,  # transformers has had its speed-up built in since 4.49
                    served_model_name=LOCAL,
                )
                engines[rows] = SyncEngineArray.from_args([arguments])
            vectors, _ = engines[rows].embed(model=LOCAL, sentences=texts).result()
            return np.array(vectors, np.float32)

        return Loaded(encode, dtype)

    return load


def embed_anything(form: str) -> Callable[[Place, int], Loaded]:
    """embed-anything on candle or on onnxruntime; threads by RAYON_NUM_THREADS and the cores of the process."""

    def load(place: Place, threads: int) -> Loaded:
        import embed_anything as library

        if form == "onnx":
            model = library.EmbeddingModel.from_pretrained_onnx(
                library.WhichModel.Bert, hf_model_id=LOCAL, path_in_repo="onnx/model.onnx"
            )
        else:
            model = library.EmbeddingModel.from_pretrained_hf(model_id=LOCAL)

        def encode(texts: list[str], rows: int) -> Vectors:
            found = library.embed_query(texts, model, library.TextEmbedConfig(batch_size=rows))
            return np.array([one.embedding for one in found], np.float32)

        return Loaded(encode, "float32")

    return load


def ctranslate2(place: Place, threads: int) -> Loaded:
    """CTranslate2's encoder, which stops at hidden states: what a user would write stands around it."""
    import ctranslate2 as library
    from tokenizers import Tokenizer

    encoder = library.Encoder(
        str(place.ct2), device="cpu", inter_threads=threads, intra_threads=1, compute_type="float32"
    )
    tokenizer = Tokenizer.from_file(str(place.model / "tokenizer.json"))
    tokenizer.no_padding()

    def pooled(batch: Sequence[Any]) -> Vectors:
        states = np.asarray(encoder.forward_batch([one.ids for one in batch]).last_hidden_state)
        lengths = np.array([len(one.ids) for one in batch])
        inside = np.arange(states.shape[1]) < lengths[:, None]
        means = np.einsum("ntd,nt->nd", states, inside.astype(np.float32)) / lengths[:, None]
        return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True), np.float32)

    def encode(texts: list[str], rows: int) -> Vectors:
        tokens = tokenizer.encode_batch_fast(texts)
        order = sorted(range(len(texts)), key=lambda i: -len(tokens[i].ids))
        batches = [order[i : i + rows] for i in range(0, len(order), rows)]
        vectors = np.empty((len(texts), 384), np.float32)
        with ThreadPoolExecutor(threads) as pool:
            for batch, found in zip(
                batches, pool.map(lambda b: pooled([tokens[i] for i in b]), batches), strict=True
            ):
                vectors[batch] = found
        return vectors

    return Loaded(encode, "float32")


DEFAULT = "sentence-transformers default"
_ST = ("sentence-transformers", "torch", "transformers")
_ONNX = ("sentence-transformers", "optimum-onnx", "onnxruntime", "transformers")
_INFINITY = ("infinity-emb", "torch", "transformers")
_OURS = ("omnivec", "openvino")

PEERS = (
    Peer(DEFAULT, "", sentence_transformers("float32"), _ST, (32,)),
    Peer("sentence-transformers float32", "", sentence_transformers("float32"), _ST),
    Peer("sentence-transformers bfloat16", "", sentence_transformers("bfloat16"), _ST),
    Peer("sentence-transformers ONNX", "sentence-transformers-onnx", sentence_transformers_onnx, _ONNX),
    Peer("fastembed", "fastembed", fastembed, ("fastembed", "onnxruntime"), (32, 256)),
    Peer("infinity float32", "infinity", infinity("float32"), _INFINITY),
    Peer("infinity bfloat16", "infinity", infinity("bfloat16"), _INFINITY),
    Peer("embed-anything ONNX", "embed-anything", embed_anything("onnx"), ("embed_anything", "onnxruntime")),
    Peer(
        "embed-anything candle", "embed-anything", embed_anything("candle"), ("embed_anything",), (32,), True
    ),
    Peer("CTranslate2", "ctranslate2", ctranslate2, ("ctranslate2", "tokenizers"), (16, 32, 128)),
    Peer("omnivec", "", omnivec(None), _OURS, (0,)),
    Peer("omnivec float32", "", omnivec("float32"), _OURS, (0,)),
    Peer("omnivec bfloat16", "", omnivec("bfloat16"), _OURS, (0,)),
)
ENVIRONMENTS = tuple(sorted({peer.environment for peer in PEERS} - {""}))
