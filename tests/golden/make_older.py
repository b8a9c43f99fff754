"""Writes older/NAME.tar.xz: models and collections as an older version of omnivec writes them, and its answers.

tests/models/test_older_models.py and tests/collection/test_older_versions.py hold the present version to them. Run it
once for a version, with its source before any other on the import path and its date as the name:

    git worktree add /tmp/older e7930e1
    PYTHONPATH=/tmp/older/src python tests/golden/make_older.py 2026-11-21

2026-11-21 is e7930e1, 2026-11-30 is fa49769. Of a version that matters for the schema of its catalogue alone,
`--collection` makes a text network and one collection: schema-1 is 4135ca4, schema-3 c845dd8, schema-4 4482c5b.

Only public names are used, which every version has; torch, transformers and numba are needed.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import omnivec

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

import checkpoints
import older

WORDS = [
    "graph",
    "weights",
    "engine",
    "compiles",
    "café",
    "owners",
    "quick",
    "brown",
    "fox",
    "jumps",
    "lazy",
    "dog",
    "capital",
    "times",
]
PREPARED = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": 32, "width": 32},
    "resample": 2,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.3, 0.25],
}
LAYER = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
TIME = 1_790_000_000
"""When the files were written, in whole seconds, which every archive keeps."""


def sentences(count: int, seed: int = 0) -> list[str]:
    """Lines of six words."""
    chosen = np.random.default_rng(seed)
    return [" ".join(chosen.choice(WORDS, 6)) for _ in range(count)]


# --- checkpoints as they are published ----------------------------------------------------------------------------


def text_network(folder: Path) -> Path:
    """A BERT with a mean of tokens, as sentence-transformers writes it."""
    checkpoints.bert(folder, width=16, layers=1, max_position_embeddings=48)
    listed = [
        {"idx": i, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(
            [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
        )
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


def image_network(folder: Path) -> Path:
    """A ResNet of two stages."""
    from transformers import ResNetConfig, ResNetModel

    config = ResNetConfig(embedding_size=4, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")
    torch.manual_seed(3)
    ResNetModel(config).eval().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPARED))
    return folder


def two_towers(folder: Path) -> Path:
    """A CLIP of texts and images."""
    from transformers import CLIPConfig, CLIPModel

    folder.mkdir()
    size = checkpoints.wordpiece(folder)
    text = {
        **LAYER,
        "vocab_size": size,
        "max_position_embeddings": 32,
        "eos_token_id": 3,
        "bos_token_id": 2,
    }
    vision = {**LAYER, "image_size": 32, "patch_size": 16}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)
    checkpoints.discriminate(CLIPModel(config), 2).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPARED))
    return folder


# --- what the version writes --------------------------------------------------------------------------------------


def write_files(root: Path) -> None:
    """Texts and pictures for collections, with times that an archive keeps."""
    texts = {
        "one.md": "# Engines\n\n" + "\n\n".join(". ".join(sentences(6, seed)) + "." for seed in (1, 2, 3)),
        "two.txt": "The quick brown fox jumps over the lazy dog.\n\nNaïve café owners don't read ISO 8601!\n",
        "deep/three.txt": "北京 is the capital; 東京 too.\n",
        "deep/four.rst": "def forward(ops, p, config, batch): return ops.linear(x, p)\n",
    }
    for name, text in texts.items():
        place = root / "files" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    (root / "pictures").mkdir()
    for i, place in enumerate(older.pictures(root)):
        coarse = np.random.default_rng(i).integers(0, 256, (2, 3, 3), np.uint8)
        Image.fromarray(coarse).resize((24, 18), Image.Resampling.NEAREST).save(place)
    for place in root.rglob("*"):
        if place.is_file():
            os.utime(place, (TIME, TIME))


def write_models(root: Path, drafts: Path) -> None:
    """One small model of each kind, saved by this version in models/."""
    lines = sentences(200)
    pairs = [(line, " ".join(reversed(line.split()))) for line in lines[:24]]
    labelled = [(line, line.split()[0]) for line in lines]
    text, image = text_network(drafts / "text"), image_network(drafts / "image")
    shown = list(zip(older.pictures(root), lines, strict=False))
    words: dict[str, Any] = {"dim": 8, "min_count": 1, "threads": 1, "epochs": 5}
    vectors = words | {"window": 3, "negative": 3}
    models = {
        "text": omnivec.load(text),
        "image": omnivec.load(image),
        "clip": omnivec.load(two_towers(drafts / "clip")),
        "tuned": omnivec.train(
            "contrastive", pairs, model=str(text), steps=4, batch_size=6, lr=1e-3, device="cpu"
        ),
        "joint": omnivec.train("align", shown, left=str(image), right=str(text), dim=4, held_out=0.0),
        "word2vec": omnivec.train("word2vec", lines, **vectors),
        "fasttext": omnivec.train("fasttext", lines, bucket=200, **vectors),
        "fasttext_supervised": omnivec.train(
            "fasttext_supervised", labelled, bucket=200, max_n=4, word_ngrams=2, **words
        ),
        "doc2vec": omnivec.train("doc2vec", lines[:40], lr=0.05, min_lr=0.001, sample=0.0, **vectors),
        older.NO_RATE: omnivec.train("doc2vec", lines[:20], **vectors),
        "glove": omnivec.train("glove", lines, **words),
        "static": omnivec.train("distill", lines, teacher=str(text), dim=8, texts=100, threads=1),
    }
    for name, model in models.items():
        model.save(root / "models" / name)


def fill_texts(root: Path, model: Any, name: str) -> None:
    """A collection of texts: files, documents with metadata, one changed and one deleted."""
    with omnivec.Collection(root / name, model=model) as notes:
        notes.sync(root / "files")
        metadata = [{"year": 2020 + i, "tags": ["even", "number"] if i % 2 == 0 else []} for i in range(6)]
        notes.add(sentences(6, 7), [f"note {i}" for i in range(6)], metadata)
        notes.add("The dog was deleted, the fox too.", "gone", {"year": 1999})
        notes.add("The lazy dog compiles a graph of café owners.", "note 3", {"year": 2030, "of": {"x": 0.5}})
        notes.delete("gone")


def fill_album(root: Path, models: dict[str, str], name: str) -> None:
    """A collection of texts and images."""
    given = {modality: root / "models" / model for modality, model in models.items()}
    with omnivec.Collection(root / name, models=given) as album:
        album.sync([root / "files", root / "pictures"])
        seen = [Image.open(place).convert("L") for place in older.pictures(root)[:3]]
        album.add(seen, [f"grey {i}" for i in range(3)], [{"year": 2020 + i} for i in range(3)])
        album.add(sentences(4, 8), [f"note {i}" for i in range(4)], {"year": 2024})
        album.delete(["grey 1"])


# --- what it answers ----------------------------------------------------------------------------------------------


def check_apart(answers: dict[str, Any], arrays: dict[str, Any]) -> None:
    """Raises where the order of hits by meaning rests on less than other machines' rounding may change.

    Hits of several spaces have ranks for scores. What is in the two spaces of both.omni is in album.omni and in
    clip.omni too, each in one space for texts.
    """
    for name, one in answers["collections"].items():
        for asked, hits in zip(one["questions"], one["hits"], strict=True):
            gaps = -np.diff([hit["score"] for hit in hits])
            if asked["mode"] == "vector" and len({hit["space"] for hit in hits}) == 1 and (gaps < 2e-5).any():
                raise SystemExit(f"{name}: two hits of {asked} have nearly one score: {gaps}")
    for name, vectors in arrays.items():
        if vectors.size and not (np.isfinite(vectors).all() and np.abs(vectors).max() > 1e-3):
            raise SystemExit(f"{name}: vectors without values")


def pack(root: Path, place: Path) -> None:
    """One archive of a folder, without owners, without times of its own, and of collections without empty logs."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if member.name.endswith("-wal") and member.size:
            raise SystemExit(f"{member.name} holds what is not in its catalogue")
        if member.name.endswith(("-wal", "-shm")):
            return None
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mtime = TIME
        return member

    place.parent.mkdir(exist_ok=True)
    with tarfile.open(place, "w:xz") as archive:
        for member in sorted(root.iterdir()):
            archive.add(member, member.name, filter=plain)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name", help="of the archive: the date of the version")
    parser.add_argument("--collection", action="store_true", help="one collection of texts alone")
    told = parser.parse_args()
    print("made by", omnivec.__file__, file=sys.stderr)
    os.environ["OMNIVEC_PRECISION"] = "float32"
    with tempfile.TemporaryDirectory() as base:
        os.environ["OMNIVEC_CACHE"] = f"{base}/cache"
        root, drafts = Path(base, "made"), Path(base, "drafts")
        root.mkdir()
        model = None
        write_files(root)
        if told.collection:
            place = omnivec.load(text_network(drafts / "text")).save(root / "models" / "text")
            # The first versions do not obey OMNIVEC_PRECISION.
            model = omnivec.load(place, precision="float32")
            fill_texts(root, model, "texts.omni")
        else:
            write_models(root, drafts)
            for name, models in older.COLLECTIONS.items():
                if "image" in models:
                    fill_album(root, models, name)
                else:
                    fill_texts(root, root / "models" / models["text"], name)
        answers, arrays = older.answers(root, model)
        check_apart(answers, arrays)
        (root / "answers.json").write_text(json.dumps(answers, ensure_ascii=False, indent=1))
        packed = io.BytesIO()
        by_name: dict[str, Any] = {**arrays}
        np.savez(packed, **by_name)
        (root / "answers.npz").write_bytes(packed.getvalue())
        target = older.FOLDER / f"{told.name}{older.SUFFIX}"
        pack(root, target)
        print(target, target.stat().st_size, file=sys.stderr)


if __name__ == "__main__":
    main()
