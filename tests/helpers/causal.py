"""Small decoders in their published formats, with tokenizers that put nothing, a start or an end around a text."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

import checkpoints
import encoders
from omnivec.testing import TEXTS

FULL = [text for text in TEXTS if text]
WIDTH = 64


def byte_level(folder: Path, kind: str, around: str) -> int:
    """A byte-level tokenizer; `around` is its template, as "$A <|end|>"."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if kind == "Qwen2Tokenizer":
        tokenizer.normalizer = normalizers.NFC()
        words = pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<|start|>", "<|end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([checkpoints.TEXT], trainer)
    if around != "$A":
        ids = [(token, tokenizer.token_to_id(token)) for token in specials]
        tokenizer.post_processor = processors.TemplateProcessing(single=around, special_tokens=ids)
    return encoders.save_tokenizer(folder, tokenizer, kind, bos="<|start|>", eos="<|end|>")


@dataclasses.dataclass(frozen=True)
class Kind:
    """A decoder as it is published: transformers' name of it, its settings, and its tokenizer's template."""

    name: str
    settings: dict[str, Any]
    around: str = "$A"
    tokenizer: str = "PreTrainedTokenizerFast"

    def make(self, folder: Path, seed: int = 0, gain: float = 2.0, **changes: Any) -> Any:
        """A checkpoint with its tokenizer in `folder`, and transformers' model of it.

        Matrices have a standard deviation of gain / sqrt(fan-in); 1 is about what training leaves, and bfloat16 bears.
        """
        folder.mkdir(parents=True, exist_ok=True)
        size = byte_level(folder, self.tokenizer, self.around)
        settings = {"vocab_size": size, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None}
        config = getattr(transformers, f"{self.name}Config")(
            **(settings | self.settings | changes), attn_implementation="eager"
        )
        model = discriminate(getattr(transformers, f"{self.name}Model")(config), seed, gain)
        model.save_pretrained(folder)
        return model


def discriminate(model: torch.nn.Module, seed: int, gain: float) -> torch.nn.Module:
    """As `checkpoints.discriminate`, for matrices of either layout and norms around 1 or, in Gemma, around 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part_name, part in model.named_modules():
            for name, p in part.named_parameters(recurse=False):
                noise = torch.randn(p.shape, generator=generator)
                is_norm = "norm" in part_name or "ln_" in part_name
                if p.ndim == 1:
                    centre = (
                        1.0 if is_norm and name == "weight" and "Gemma" not in type(part).__name__ else 0.0
                    )
                    p.copy_(centre + 0.3 * noise)
                elif isinstance(part, torch.nn.Embedding):
                    # Gemma multiplies what it looks up by the root of the width.
                    p.copy_(noise / p.shape[1] ** 0.5 if "Gemma" in type(part).__name__ else noise)
                else:
                    fan_in = p.shape[0] if type(part).__name__ == "Conv1D" else p.shape[1]
                    p.copy_(noise * gain / fan_in**0.5)
        unscale(model)
    return model.eval()


def unscale(model: torch.nn.Module) -> None:
    """Where attention has no scale of its own, the queries' weights have it, from their first values on."""
    for part in model.modules():
        if getattr(part, "scaling", None) == 1.0:
            part.c_attn.weight[:, : part.embed_dim] *= part.head_dim**-0.5
        elif type(part).__name__ == "GPTNeoSelfAttention":
            part.q_proj.weight *= part.head_dim**-0.5


def batch_of(model: Any, lengths: list[int], padding: int = 0, seed: int = 0) -> encoders.Batch:
    """Random ids of these lengths, padded by zeros to the longest and `padding` more."""
    ids = np.random.default_rng(seed).integers(
        2, model.config.vocab_size, (len(lengths), max(lengths) + padding)
    )
    mask = (np.arange(ids.shape[1]) < np.array(lengths)[:, None]).astype(np.int32)
    return {"ids": (ids * mask).astype(np.int32), "mask": mask}


def last_pooled(model: Any, tokenizer: Any, texts: list[str], side: str = "right") -> np.ndarray:
    """transformers' own way from texts to the vectors of their last tokens, padded on either side."""
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = side
    batch = tokenizer(texts, padding=True, truncation=True, max_length=96, return_tensors="pt")
    mask = batch["attention_mask"]
    place = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        hidden = model(
            input_ids=batch["input_ids"], attention_mask=mask, position_ids=place
        ).last_hidden_state
    last = mask.shape[1] - 1 - mask.flip(1).argmax(1)
    return hidden[torch.arange(len(texts)), last].numpy()


GPT = {"n_embd": WIDTH, "n_layer": 3, "n_head": 4, "n_positions": 96}
NEO: dict[str, Any] = {"hidden_size": WIDTH, "num_layers": 4, "num_heads": 4, "max_position_embeddings": 96}
NEO |= {"attention_types": [[["global", "local"], 2]], "window_size": 5}

GPTS = {
    "openai-gpt": Kind("OpenAIGPT", GPT),
    "gpt2": Kind("GPT2", GPT, tokenizer="GPT2Tokenizer"),
    "gpt2, scaled by layer": Kind("GPT2", GPT | {"scale_attn_by_inverse_layer_idx": True}),
    "gpt2, unscaled": Kind("GPT2", GPT | {"scale_attn_weights": False, "n_inner": 100}),
    "gpt_neo": Kind("GPTNeo", NEO, tokenizer="GPT2Tokenizer"),
}

LLAMA = {"hidden_size": WIDTH, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
LLAMA |= {"num_key_value_heads": 2, "max_position_embeddings": 96}
HEADS = {"head_dim": 24}
GEMMA2 = LLAMA | HEADS | {"query_pre_attn_scalar": 20, "sliding_window": 6, "num_hidden_layers": 4}
GEMMA3 = GEMMA2 | {"layer_types": ["sliding_attention", "full_attention"] * 2}
WINDOWS = {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0}
LLAMA3 |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 32}
START, END = "<|start|> $A", "$A <|end|>"

DECODERS = {
    "llama": Kind("Llama", LLAMA, START),
    "llama, biases": Kind(
        "Llama", LLAMA | {"attention_bias": True, "mlp_bias": True, "rope_parameters": LLAMA3}
    ),
    "llama, both ways": Kind("Llama", LLAMA | {"is_causal": False}, START),
    "mistral": Kind("Mistral", LLAMA | {"sliding_window": 7}, START + " <|end|>"),
    "mistral, no window": Kind("Mistral", LLAMA | HEADS | {"sliding_window": None}),
    "mistral, both ways": Kind("Mistral", LLAMA | {"sliding_window": 5, "is_causal": False}),
    "qwen2": Kind("Qwen2", LLAMA, END, "Qwen2Tokenizer"),
    "qwen2, windows": Kind("Qwen2", LLAMA | WINDOWS, "$A", "Qwen2Tokenizer"),
    "qwen3": Kind("Qwen3", LLAMA | HEADS, END, "Qwen2Tokenizer"),
    "qwen3, windows": Kind("Qwen3", LLAMA | HEADS | WINDOWS),
    "gemma": Kind("Gemma", LLAMA | HEADS | {"num_key_value_heads": 1}, START),
    "gemma2": Kind("Gemma2", GEMMA2 | {"attn_logit_softcapping": 3.0}, START),
    "gemma3": Kind("Gemma3Text", GEMMA3, START),
    "gemma3, both ways": Kind(
        "Gemma3Text", GEMMA3 | {"use_bidirectional_attention": True}, START + " <|end|>"
    ),
}
