"""Small encoders in their published formats, and how a family is held against transformers' model of one."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import transformers
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

import checkpoints
from omnivec.inputs.text.text import INPUTS
from omnivec.models.model import read_model
from omnivec.ops import openvino
from omnivec.ops import torch as torch_ops
from omnivec.ops.base import EngineSettings, Executable
from omnivec.testing import open_model

ENGINES: dict[str, Callable[..., Executable]] = {
    "openvino": openvino.compile_program,
    "torch": torch_ops.compile_program,
}
Batch = dict[str, np.ndarray]
Forward = Callable[..., Any]

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=5)
WIDTH = 64


def save_tokenizer(folder: Path, tokenizer: Tokenizer, kind: str, **roles: str) -> int:
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": kind} | {f"{role}_token": token for role, token in roles.items()}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return tokenizer.get_vocab_size()


def unigram(folder: Path, kind: str, specials: list[str], around: str, **roles: str) -> int:
    """A tokenizer as SentencePiece's are published; `around` is its template, as "<s> $A </s>"."""
    words = sorted({"▁" + word for word in checkpoints.TEXT.split()})
    parts = sorted({letter for word in words for letter in word} | {word[:3] for word in words})
    # The longer a piece, the likelier, as trained vocabularies have it; training one would differ from run to run.
    scored = [(piece, -20.0 / len(piece)) for piece in dict.fromkeys(parts + words)]
    scored = [(name, 0.0) for name in specials] + [one for one in scored if one[0] not in specials]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=specials.index(roles["unk"])))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(specials)
    named = [(token, tokenizer.token_to_id(token)) for token in around.split() if token != "$A"]
    tokenizer.post_processor = processors.TemplateProcessing(single=around, special_tokens=named)
    return save_tokenizer(folder, tokenizer, kind, **roles)


def t5_tokenizer(folder: Path) -> int:
    """With the end of the text behind each text, and nothing before it."""
    return unigram(
        folder, "T5Tokenizer", ["<pad>", "</s>", "<unk>"], "$A </s>", pad="<pad>", eos="</s>", unk="<unk>"
    )


def xlm_tokenizer(folder: Path, kind: str = "XLMRobertaTokenizer") -> int:
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    roles = {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": "<pad>", "cls": "<s>", "sep": "</s>"}
    return unigram(folder, kind, names, "<s> $A </s>", **roles)


def albert_tokenizer(folder: Path) -> int:
    names = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
    roles = {"unk": "<unk>", "pad": "<pad>", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    return unigram(folder, "PreTrainedTokenizerFast", names, "[CLS] $A [SEP]", **roles)


def mpnet_tokenizer(folder: Path) -> int:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    names = ["<s>", "<pad>", "</s>", "[UNK]", "<mask>"]
    checkpoints.give_pieces(tokenizer, names, 221)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    roles = {"bos": "<s>", "eos": "</s>", "unk": "[UNK]", "pad": "<pad>", "cls": "<s>", "sep": "</s>"}
    return save_tokenizer(folder, tokenizer, "MPNetTokenizer", **roles)


def as_t5_begins(model: Any) -> None:
    """T5's own first values: embeddings of standard deviation 1, the attention's scale in its queries."""
    with torch.no_grad():
        model.shared.weight *= model.config.d_model**0.5 / 2
        for block in model.encoder.block:
            block.layer[0].SelfAttention.q.weight *= model.config.d_kv**-0.5


@dataclasses.dataclass(frozen=True)
class Kind:
    """An encoder as it is published: transformers' names of its config and model, its tokenizer, its settings."""

    config: str
    model: str
    tokenizer: Callable[[Path], int]
    settings: dict[str, Any]

    def make(self, folder: Path, seed: int = 0, **changes: Any) -> Any:
        """A checkpoint with its tokenizer in `folder`, and transformers' model of it."""
        folder.mkdir(parents=True, exist_ok=True)
        settings = {"vocab_size": self.tokenizer(folder), **self.settings, **changes}
        config = getattr(transformers, self.config)(**settings, attn_implementation="eager")
        model = checkpoints.discriminate(getattr(transformers, self.model)(config), seed)
        if hasattr(model, "shared"):
            as_t5_begins(model)
        if hasattr(model, "embeddings_project"):
            # No norm follows it: at twice the size attention would look at one token only.
            model.embeddings_project.weight.data /= 2
        model.save_pretrained(folder)
        return model


BERT_LIKE = {"hidden_size": WIDTH, "num_hidden_layers": 3, "num_attention_heads": 4}
BERT_LIKE |= {"intermediate_size": 2 * WIDTH, "max_position_embeddings": 98}
ROBERTA_LIKE = BERT_LIKE | {"layer_norm_eps": 1e-5, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
DISTILBERT = {"dim": WIDTH, "n_layers": 3, "n_heads": 4, "hidden_dim": 2 * WIDTH}
T5 = {"d_model": WIDTH, "d_kv": 12, "d_ff": 96, "num_layers": 3, "num_heads": 4}

KINDS = {
    "xlm-roberta": Kind(
        "XLMRobertaConfig", "XLMRobertaModel", xlm_tokenizer, ROBERTA_LIKE | {"type_vocab_size": 1}
    ),
    "camembert": Kind(
        "CamembertConfig",
        "CamembertModel",
        lambda folder: xlm_tokenizer(folder, "PreTrainedTokenizerFast"),
        ROBERTA_LIKE | {"type_vocab_size": 1},
    ),
    "electra": Kind(
        "ElectraConfig", "ElectraModel", checkpoints.wordpiece, BERT_LIKE | {"embedding_size": 24}
    ),
    "electra, wide": Kind(
        "ElectraConfig", "ElectraModel", checkpoints.wordpiece, BERT_LIKE | {"embedding_size": WIDTH}
    ),
    "distilbert": Kind(
        "DistilBertConfig",
        "DistilBertModel",
        checkpoints.wordpiece,
        DISTILBERT | {"max_position_embeddings": 98},
    ),
    "mpnet": Kind("MPNetConfig", "MPNetModel", mpnet_tokenizer, ROBERTA_LIKE),
    "albert": Kind(
        "AlbertConfig", "AlbertModel", albert_tokenizer, BERT_LIKE | {"embedding_size": 24, "pad_token_id": 0}
    ),
    "albert, two groups": Kind(
        "AlbertConfig",
        "AlbertModel",
        albert_tokenizer,
        BERT_LIKE
        | {"embedding_size": 24, "pad_token_id": 0, "num_hidden_groups": 2, "inner_group_num": 2}
        | {"num_hidden_layers": 4},
    ),
}
T5_KINDS = {
    "t5": Kind("T5Config", "T5EncoderModel", t5_tokenizer, T5),
    "t5, gated": Kind("T5Config", "T5EncoderModel", t5_tokenizer, T5 | {"feed_forward_proj": "gated-gelu"}),
    "mt5": Kind("MT5Config", "MT5EncoderModel", t5_tokenizer, T5),
    "umt5": Kind("UMT5Config", "UMT5EncoderModel", t5_tokenizer, T5),
}


def batch_of(model: Any, lengths: list[int], padding: int = 0, seed: int = 0) -> Batch:
    """Random ids of these lengths, padded to the longest and `padding` more."""
    ids = np.random.default_rng(seed).integers(
        5, model.config.vocab_size, (len(lengths), max(lengths) + padding)
    )
    mask = (np.arange(ids.shape[1]) < np.array(lengths)[:, None]).astype(np.int32)
    return {"ids": np.where(mask == 1, ids, model.config.pad_token_id).astype(np.int32), "mask": mask}


def expected_states(model: Any, batch: Batch) -> list[np.ndarray]:
    """transformers' hidden states, of the real tokens only."""
    ids, mask = (torch.from_numpy(batch[name]).long() for name in ("ids", "mask"))
    with torch.no_grad():
        found = model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    return [state.numpy()[batch["mask"] == 1] for state in found]


@functools.cache
def executable(folder: Path, engine: str, forward: Forward | None) -> Executable:
    """A folder's hidden states on an engine; compiled once."""
    model = read_model(folder)
    if forward is not None:
        family: Any = SimpleNamespace(forward=forward)
        model = dataclasses.replace(model, family=family)
    return ENGINES[engine](model.hidden, INPUTS, model.tensors, EngineSettings())


def states(folder: Path, engine: str, batch: Batch, forward: Forward | None = None) -> list[np.ndarray]:
    """The family's hidden states, of the real tokens only; of another forward where one is given."""
    found = executable(folder, engine, forward).run(batch)
    return [found[str(i)][batch["mask"] == 1] for i in range(len(found))]


def mean_pooled(model: Any, tokenizer: Any, texts: list[str], limit: int) -> np.ndarray:
    """transformers' own way from texts to vectors."""
    batch = tokenizer(texts, padding=True, truncation=True, max_length=limit, return_tensors="pt")
    mask = batch["attention_mask"]
    with torch.no_grad():
        hidden = model(input_ids=batch["input_ids"], attention_mask=mask).last_hidden_state.float()
    return ((hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)).numpy()


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of each row of one with its own row of the other."""
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def bfloat16_cosine(folder: Path, engine: str, texts: list[str]) -> np.ndarray:
    """Cosine of each text's vector in bfloat16 and in float32."""
    a, b = (open_model(folder, engine, precision).encode(texts) for precision in ("bfloat16", "float32"))
    assert np.isfinite(a).all()
    return cosines(a, b)


def changed(family: Any, **changes: Any) -> Forward:
    """A family's forward with another config."""
    return lambda ops, p, config, batch: family.forward(ops, p, dataclasses.replace(config, **changes), batch)


def with_operation(family: Any, name: str, wrong: Callable[..., Any]) -> Forward:
    """A family's forward with one operation replaced; `wrong` gets the right one first."""

    def forward(ops: Any, p: Any, config: Any, batch: Any) -> Any:
        right = getattr(ops, name)
        setattr(ops, name, lambda *args: wrong(right, *args))
        return family.forward(ops, p, config, batch)

    return forward
