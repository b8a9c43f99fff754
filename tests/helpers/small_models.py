"""Small models of each kind, for tests of what is handed to a model and not of what it computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from transformers import CLIPConfig, CLIPModel, ResNetConfig, ResNetModel

import checkpoints
from omnivec.tables.io import write_table
from omnivec.tables.record import Table

WORDS = ["the", "quick", "brown", "fox", "a", "lazy", "dog", "an", "engine"]
PREPARED = (
    '{"image_processor_type": "ViTImageProcessor", "do_resize": true, "size": {"height": 32, "width": 32}, '
    '"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "do_normalize": true, "resample": 2}'
)


def of_texts(folder: Path) -> Path:
    """A network of texts."""
    checkpoints.bert(folder, width=32, layers=1)
    return folder


def of_images(folder: Path) -> Path:
    """A network of images."""
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(PREPARED)
    return folder


def of_both(folder: Path) -> Path:
    """Towers of texts and images."""
    folder.mkdir()
    layers = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48}
    texts = layers | {"vocab_size": checkpoints.wordpiece(folder), "eos_token_id": 2}
    images = layers | {"image_size": 32, "patch_size": 8}
    config = CLIPConfig(text_config=texts, vision_config=images, projection_dim=16)
    checkpoints.discriminate(CLIPModel(config), 0).save_pretrained(folder)
    cropped = PREPARED.replace("ViTImage", "CLIPImage").replace(
        '"size"', '"crop_size": {"height": 32, "width": 32}, "size"'
    )
    (folder / "preprocessor_config.json").write_text(cropped)
    return folder


def of_towers(folder: Path) -> Path:
    """A network of texts and one of images in one space."""
    folder.mkdir()
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    size = checkpoints.wordpiece(folder)
    config = CLIPConfig(
        text_config={**small, "vocab_size": size, "max_position_embeddings": 24, "eos_token_id": 3},
        vision_config={**small, "image_size": 32, "patch_size": 16},
        projection_dim=16,
    )
    CLIPModel(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(PREPARED)
    return folder


def of_words(folder: Path) -> Path:
    """A table of WORDS."""
    vectors = np.random.default_rng(0).normal(size=(len(WORDS), 8)).astype(np.float32)
    write_table(folder / "words", Table(WORDS, vectors, np.arange(len(WORDS), 0, -1)), "omnivec")
    return folder / "words"
