"""Small random checkpoints in the published format, whose weights tell a wrong formula from a right one."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

TEXT = """
A graph is built straight from the weights; the engine compiles it once. Naïve café owners don't read ISO 8601!
The quick brown fox jumps over the lazy dog, 1234567890 times. 北京 is the capital; 東京 too. Ünïcode – “quotes”.
def forward(ops, p, config, batch): return ops.linear(x, p["weight"]) + 3.14 * (a - b) / c
""".strip()

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def discriminate(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Weights with a standard deviation of 2 / sqrt(fan-in), random norms and biases: defaults hide errors."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if "norm" in name.lower():
                p.copy_(1 + 0.3 * noise if name.endswith("weight") else 0.3 * noise)
            elif p.ndim == 1:
                p.copy_(0.3 * noise)
            elif "embeddings" in name:
                p.copy_(noise)
            else:
                p.copy_(noise * 2 / (p.shape[-1] if p.ndim else 1) ** 0.5)
    return model.eval()


def give_pieces(tokenizer: Tokenizer, names: list[str], count: int) -> None:
    """Characters, beginnings and ends of words of a little text, the same ones each time: a trainer's are not.

    Their number decides which random weights a checkpoint has. With some, float32 itself is off by more than what
    tests allow: transformers' NomicBERT differs from its own float64 by 7e-6 at 221 pieces and by 3e-5 at 234.
    """
    normal = tokenizer.normalizer.normalize_str(TEXT)
    words = [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal)]
    parts = {part for word in words for part in (*word, word[:3], word[:5])}
    parts |= {f"##{part}" for word in words for part in (*word[1:], word[3:], word[-2:]) if part}
    pieces = [*names, *sorted(parts, key=lambda part: (len(part.removeprefix("##")), part))][:count]
    tokenizer.model = models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]")
    tokenizer.add_special_tokens(names)


def wordpiece(folder: Path, lower: bool = True) -> int:
    """A BERT tokenizer of a little text; returns the size of its vocabulary."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    give_pieces(tokenizer, SPECIAL, 221 if lower else 237)
    vocabulary = tokenizer.get_vocab()
    ids = [(name, vocabulary[name]) for name in ("[SEP]", "[CLS]")]
    tokenizer.post_processor = processors.BertProcessing(ids[0], ids[1])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": lower,
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
    }
    settings |= {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return tokenizer.get_vocab_size()


def byte_level(folder: Path) -> int:
    """A RoBERTa tokenizer trained on a little text; returns the size of its vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [TEXT], trainers.BpeTrainer(vocab_size=400, special_tokens=names, initial_alphabet=alphabet)
    )
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "RobertaTokenizer",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
    }
    settings |= {"pad_token": "<pad>", "cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return tokenizer.get_vocab_size()


def bert(folder: Path, seed: int = 0, width: int = 64, layers: int = 3, **changes: object) -> BertModel:
    """A BERT checkpoint with its tokenizer in `folder`, and transformers' model of it."""
    folder.mkdir(parents=True, exist_ok=True)
    size = wordpiece(folder)
    settings = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": 4}
    settings |= {"intermediate_size": 2 * width, "max_position_embeddings": 96, "vocab_size": size}
    config = BertConfig(**(settings | changes), attn_implementation="eager")
    model = discriminate(BertModel(config), seed)
    model.save_pretrained(folder)
    return model


def roberta(folder: Path, seed: int = 0, width: int = 64, layers: int = 3, **changes: object) -> RobertaModel:
    """A RoBERTa checkpoint with its tokenizer in `folder`, and transformers' model of it."""
    folder.mkdir(parents=True, exist_ok=True)
    size = byte_level(folder)
    settings = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "layer_norm_eps": 1e-5,
    }
    settings |= {
        "intermediate_size": 2 * width,
        "max_position_embeddings": 98,
        "vocab_size": size,
        "pad_token_id": 1,
    }
    settings |= {"type_vocab_size": 1, "bos_token_id": 0, "eos_token_id": 2}
    config = RobertaConfig(**(settings | changes), attn_implementation="eager")
    model = discriminate(RobertaModel(config), seed)
    model.save_pretrained(folder)
    return model
