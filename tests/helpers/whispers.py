"""Small random checkpoints of Whisper, in transformers' layout, and how the family is held against them."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

import checkpoints
from encoders import ENGINES
from model_bins import model_bin
from omnivec import weights
from omnivec.families import whisper
from omnivec.models.model import read_config
from omnivec.ops.base import EngineSettings, Executable, Input
from omnivec.validation.json_files import read_json

SMALL: dict[str, Any] = {
    "d_model": 48,
    "encoder_layers": 3,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 96,
    "decoder_layers": 2,
    "decoder_attention_heads": 6,
    "decoder_ffn_dim": 64,
    "num_mel_bins": 80,
    "max_source_positions": 50,
    "max_target_positions": 40,
    "vocab_size": 120,
    "pad_token_id": 110,
    "bos_token_id": 110,
    "eos_token_id": 110,
    "decoder_start_token_id": 111,
}
LENGTHS = (5000, 16000, 160, 9600, 12345)
"""Samples of the sounds of a batch; the longest is as long as the small models read."""


def checkpoint(folder: Path, seed: int = 0, **changes: Any) -> WhisperForConditionalGeneration:
    """A checkpoint in `folder`, and transformers' model of it."""
    config = WhisperConfig(**(SMALL | changes), attn_implementation="eager")
    model = checkpoints.discriminate(WhisperForConditionalGeneration(config), seed)
    model.tie_weights()
    model.save_pretrained(folder)
    extractor(model.config).save_pretrained(folder)
    return model


SPECIAL = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|fr|>", "<|translate|>"]
SPECIAL += ["<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]


def speaker(
    folder: Path, ending: float = 0.0, english: bool = False, **changes: Any
) -> WhisperForConditionalGeneration:
    """A checkpoint with a tokenizer of 256 bytes, the special tokens and 51 timestamps.

    The larger `ending`, the sooner its texts end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.save(str(folder / "tokenizer.json"))
    ids = {"bos_token_id": 256, "eos_token_id": 256, "pad_token_id": 256, "decoder_start_token_id": 257}
    model = checkpoint(folder, vocab_size=256 + len(SPECIAL) + 51, **(ids | changes))
    with torch.no_grad():
        end = model.proj_out.weight[256]
        model.model.decoder.layer_norm.bias += ending * end / end.norm()
    model.save_pretrained(folder)
    settings = {"suppress_tokens": [5, 6, 257, 263], "begin_suppress_tokens": [7, 256]}
    (folder / "generation_config.json").write_text(json.dumps(settings | {"is_multilingual": not english}))
    return model


def extractor(config: Any) -> WhisperFeatureExtractor:
    """transformers' front end for a config."""
    return WhisperFeatureExtractor(
        feature_size=config.num_mel_bins, chunk_length=config.max_source_positions // 50
    )


def sounds(lengths: Sequence[int] = LENGTHS, seed: int = 0) -> list[np.ndarray]:
    """Tones that rise and fall over noise, each louder and higher than the one before."""
    rng = np.random.default_rng(seed)
    made = []
    for i, n in enumerate(lengths):
        t = np.arange(n) / 16000
        tone = np.sin(2 * np.pi * (200 + 150 * i) * t * (1 + 0.5 * np.sin(3 * t)))
        made.append((0.1 * (i + 1) * tone + 0.01 * rng.standard_normal(n)).astype(np.float32))
    return made


@dataclasses.dataclass(frozen=True, eq=False)
class Read:
    """The family with a config and weights."""

    config: Any
    tensors: Mapping[str, weights.Tensor]

    def batch(self, samples: Sequence[np.ndarray], further: int = 0) -> dict[str, np.ndarray]:
        """The arrays of a batch, with `further` rows of padding."""
        processing = whisper.sound(self.config, {})
        rows = [processing.rows_of(one) for one in samples]
        lengths = np.array([len(one) for one in rows], np.int32)
        t = max(processing.padded, lengths.max() + further)
        sound = np.zeros((len(rows), t, *processing.features.rows), np.float32)
        for array, one in zip(sound, rows, strict=True):
            array[: len(one)] = one
        assert processing.states is not None
        states = processing.states(t)
        mask = np.arange(states) < np.array([processing.states(n) for n in lengths])[:, None]
        return {"sound": sound, "lengths": lengths, "mask": mask.astype(np.int32)}

    @functools.cache  # noqa: B019, one for each test
    def executable(self, engine: str, forward: Callable[..., Any], precision: Any) -> Executable:
        """The hidden states of a forward."""

        def program(ops: Any, get: Any, p: Any) -> dict[str, Any]:
            batch = SimpleNamespace(sound=get("sound"), lengths=get("lengths"), mask=get("mask"))
            forward(ops, p, self.config, batch)
            return {str(i): state for i, state in enumerate(ops.states)}

        rows = whisper.sound(self.config, {}).features.rows
        inputs = [
            Input("sound", np.float32, (None, None, *rows)),
            Input("lengths", np.int32, (None,)),
            Input("mask", np.int32, (None, None)),
        ]
        return ENGINES[engine](program, inputs, self.tensors, EngineSettings(precision, threads=1))

    def states(
        self,
        engine: str,
        batch: dict[str, np.ndarray],
        forward: Callable[..., Any] | None = None,
        precision: Any = "float32",
    ) -> list[np.ndarray]:
        """All hidden states up to the config's layer."""
        found = self.executable(engine, forward or whisper.forward, precision).run(batch)
        return [found[str(i)] for i in range(len(found))]

    def vectors(self, engine: str, batch: dict[str, np.ndarray], **how: Any) -> np.ndarray:
        """The mean over the states of each sound."""
        last, mask = self.states(engine, batch, **how)[-1], batch["mask"][:, :, None]
        return (last * mask).sum(1) / mask.sum(1)


def read(folder: Path, **options: Any) -> Read:
    """The family's config and weights of a folder."""
    published = read_json(folder / "config.json") | options
    original = whisper.load_original(folder, published)
    published, stored, _ = original or (published, weights.read(folder), None)
    stored = weights.strip_prefixes(stored, whisper.PREFIXES)
    return Read(read_config(whisper, published, folder), dict(weights.rename(stored, whisper.LAYOUTS)))


def expected(model: WhisperForConditionalGeneration, samples: Sequence[np.ndarray]) -> list[np.ndarray]:
    """transformers' hidden states of padded sounds."""
    features = extractor(model.config)(list(samples), sampling_rate=16000, return_tensors="pt").input_features
    with torch.no_grad():
        out = model.model.encoder(features, output_hidden_states=True)
    return [state.numpy() for state in out.hidden_states]


def ctranslate2(folder: Path, model: WhisperForConditionalGeneration) -> Path:
    """The folder of a model as CTranslate2's converter writes it, in float16."""
    folder.mkdir()
    config, state = model.config, {n: p.detach().numpy() for n, p in model.model.state_dict().items()}
    arrays: dict[str, np.ndarray] = {}

    def put(name: str, *sources: str) -> None:
        arrays[name] = np.concatenate([state[source] for source in sources]).astype(np.float16)

    def linear(name: str, *sources: str) -> None:
        put(f"{name}/weight", *(f"{source}.weight" for source in sources))
        for source in sources:
            if source.endswith("k_proj"):
                state[f"{source}.bias"] = np.zeros(config.d_model, np.float32)
        put(f"{name}/bias", *(f"{source}.bias" for source in sources))

    def norm(name: str, source: str) -> None:
        put(f"{name}/gamma", f"{source}.weight")
        put(f"{name}/beta", f"{source}.bias")

    for name in ("conv1", "conv2"):
        linear(f"encoder/{name}", f"encoder.{name}")
    put("decoder/embeddings/weight", "decoder.embed_tokens.weight")
    for side in ("encoder", "decoder"):
        settings = {"num_heads": config.encoder_attention_heads, "activation": 3, "pre_norm": 1}
        settings |= {} if side == "encoder" else {"num_heads": config.decoder_attention_heads, "alibi": 0}
        arrays |= {f"{side}/{name}": np.array(value, np.int16) for name, value in settings.items()}
        put(f"{side}/position_encodings/encodings", f"{side}.embed_positions.weight")
        norm(f"{side}/layer_norm", f"{side}.layer_norm")
        for i in range(len(getattr(model.model, side).layers)):
            new, old = f"{side}/layer_{i}", f"{side}.layers.{i}"
            linear(f"{new}/self_attention/linear_0", *(f"{old}.self_attn.{x}_proj" for x in "qkv"))
            linear(f"{new}/self_attention/linear_1", f"{old}.self_attn.out_proj")
            norm(f"{new}/self_attention/layer_norm", f"{old}.self_attn_layer_norm")
            if side == "decoder":
                linear(f"{new}/attention/linear_0", f"{old}.encoder_attn.q_proj")
                linear(f"{new}/attention/linear_1", *(f"{old}.encoder_attn.{x}_proj" for x in "kv"))
                linear(f"{new}/attention/linear_2", f"{old}.encoder_attn.out_proj")
                norm(f"{new}/attention/layer_norm", f"{old}.encoder_attn_layer_norm")
            linear(f"{new}/ffn/linear_0", f"{old}.fc1")
            linear(f"{new}/ffn/linear_1", f"{old}.fc2")
            norm(f"{new}/ffn/layer_norm", f"{old}.final_layer_norm")
    tied = {"decoder/projection/weight": "decoder/embeddings/weight"}
    (folder / "model.bin").write_bytes(model_bin(arrays, tied))
    keys = {"alignment_heads": [[1, 0]], "lang_ids": [], "suppress_ids": [1, 2], "suppress_ids_begin": [3]}
    (folder / "config.json").write_text(json.dumps(keys))
    return folder


def published(folder: Path) -> WhisperForConditionalGeneration:
    """transformers' model of a folder in the layout of CTranslate2."""
    ours = read(folder)
    names = {field.name for field in dataclasses.fields(ours.config)} - {"dim", "layer", "fast"}
    settings = {name: getattr(ours.config, name) for name in names} | {"d_model": ours.config.dim}
    end = 50256 if ours.config.vocab_size == 51864 else 50257
    ids = {f"{role}_token_id": end for role in ("bos", "eos", "pad")} | {"decoder_start_token_id": end + 1}
    ffn = ours.config.encoder_ffn_dim
    model = WhisperForConditionalGeneration(WhisperConfig(**settings, **ids, decoder_ffn_dim=ffn))
    state = {f"model.{name}": torch.from_numpy(one.float32().copy()) for name, one in ours.tensors.items()}
    model.load_state_dict(state, strict=False)
    model.tie_weights()
    return model.eval()
