"""Checkpoints of fairseq and of WavLM's authors are the models that transformers publishes under other names."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from omnivec.errors import UnsupportedModel, WeightsError
from omnivec.families import wav2vec2
from omnivec.models import registry
from omnivec.models.model import known_keys
from omnivec.testing import check_close
from speech import Read, expected_states, published, read, waveforms

# transformers' names as fairseq has them.
NAMES = [
    (r"^feature_extractor\.conv_layers\.(\d)\.conv", r"feature_extractor.conv_layers.\1.0"),
    (r"^feature_projection\.projection", "post_extract_proj"),
    (r"^feature_projection\.layer_norm", "layer_norm"),
    (r"pos_conv_embed\.conv\.parametrizations\.weight\.original0", "pos_conv.0.weight_g"),
    (r"pos_conv_embed\.conv\.parametrizations\.weight\.original1", "pos_conv.0.weight_v"),
    (r"pos_conv_embed\.conv", "pos_conv.0"),
    (r"pos_conv_embed\.layers\.(\d)\.conv", r"pos_conv.\1.0"),
    (r"\.attention\.gru_rel_pos_linear", ".self_attn.grep_linear"),
    (r"\.attention\.gru_rel_pos_const", ".self_attn.grep_a"),
    (r"\.attention\.rel_attn_embed", ".self_attn.relative_attention_bias"),
    (r"\.attention\.", ".self_attn."),
    (r"(layers\.\d)\.layer_norm", r"\1.self_attn_layer_norm"),
    (r"feed_forward\.intermediate_dense", "fc1"),
    (r"feed_forward\.output_dense", "fc2"),
    (r"masked_spec_embed", "mask_emb"),
]
SETTINGS: dict[str, Any] = {
    "encoder_embed_dim": 48,
    "encoder_layers": 3,
    "encoder_attention_heads": 4,
    "encoder_ffn_embed_dim": 96,
    "conv_feature_layers": "[(32, 10, 5)] + [(32, 3, 2)] * 4 + [(32,2,2)] + [(32,2,2)]",
    "conv_pos": 16,
    "conv_pos_groups": 4,
    "extractor_mode": "default",
}
LAYER_NORMS = {
    "extractor_mode": "layer_norm",
    "conv_bias": True,
    "layer_norm_first": True,
    "activation_fn": "gelu_new",
}
WAVLM = {"relative_position_embedding": True, "gru_rel_pos": True, "num_buckets": 32, "max_distance": 80}
# Kind of test_wav2vec2, name of the file, and the settings of the checkpoint.
CHECKPOINTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "wav2vec2": ("wav2vec2", "wav2vec_small.pt", {"arch": "wav2vec2"}),
    "wav2vec2, norms first": (
        "wav2vec2, norms first",
        "wav2vec_vox_new.pt",
        {"arch": "wav2vec2", **LAYER_NORMS},
    ),
    "hubert": ("hubert", "hubert_base_ls960.pt", {"_name": "hubert", "conv_bias": True}),
    "wavlm": ("wavlm", "WavLM-Base.pt", WAVLM),
    "data2vec": (
        "data2vec",
        "model.pt",
        {"_name": "data2vec_audio", "extractor_mode": "layer_norm", "conv_pos": 27, "pos_conv_depth": 3},
    ),
}


def renamed(model: Any, stem: str = "") -> dict[str, torch.Tensor]:
    """transformers' weights under the names of fairseq, with some that are only needed for training."""
    state = {}
    in_layers = model.config.model_type == "data2vec-audio" or model.config.feat_extract_norm == "layer"
    norm = r"feature_extractor.conv_layers.\1.2.1" if in_layers else r"feature_extractor.conv_layers.\1.2"
    for name, value in model.state_dict().items():
        for pattern, new in [(r"^feature_extractor\.conv_layers\.(\d)\.layer_norm", norm), *NAMES]:
            name = re.sub(pattern, new, name)
        state[stem + name] = value
    return state | {
        f"{stem}final_proj.weight": torch.ones(3, 48),
        f"{stem}quantizer.vars": torch.ones(1, 6, 2),
    }


def read_folder(folder: Path, config: dict[str, Any]) -> Read:
    original = wav2vec2.load_original(folder, known_keys(wav2vec2, config, folder))
    assert original is not None
    return read(wav2vec2, original[0], next(folder.glob("*.pt")))


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints_equal_transformers(tmp_path: Path, name: str) -> None:
    kind, file, changes = CHECKPOINTS[name]
    model = published(tmp_path / "transformers", kind)
    right = read(wav2vec2, {**model.config.to_dict(), "do_normalize": False}, tmp_path / "transformers")
    folder = tmp_path / "fairseq"
    folder.mkdir()
    settings = {**SETTINGS, **changes, "normalize": False}
    new = "_name" in settings
    checkpoint = {
        "args": argparse.Namespace(**settings) if "arch" in settings else None,
        "cfg": {"model": settings, "task": {"normalize": False}} if new else settings,
        "model": renamed(model),
    }
    torch.save(checkpoint, folder / file)
    claimed = file in wav2vec2.CLAIMS["files"]
    config = dict(registry.config_of_files(folder)) if claimed else {"model_type": "data2vec-audio"}
    ours = read_folder(folder, config)
    assert ours.config == right.config
    assert ours.tensors.keys() == right.tensors.keys()
    assert all(np.array_equal(ours.tensors[n].data, t.data) for n, t in right.tensors.items())
    [sound] = waveforms([8000])
    check_close(ours.states("torch", [sound])[-1][0], expected_states(model, sound)[-1], name)
    assert not wav2vec2.sound(ours.config, {}).features(sound).std() > 0.9


def test_a_model_tuned_for_ctc_has_the_settings_of_the_pretrained_one(tmp_path: Path) -> None:
    model = published(tmp_path / "transformers", "wav2vec2")
    folder = tmp_path / "fairseq"
    folder.mkdir()
    pretrained = argparse.Namespace(**SETTINGS, arch="wav2vec2", normalize=False)
    state = renamed(model, "w2v_encoder.w2v_model.") | {"w2v_encoder.proj.weight": torch.ones(5, 48)}
    args = argparse.Namespace(arch="wav2vec_ctc", w2v_args=pretrained, normalize=True)
    torch.save({"args": args, "model": state}, folder / "wav2vec_small_960h.pt")
    ours = read_folder(folder, {"model_type": "wav2vec2"})
    right = read(wav2vec2, model.config.to_dict(), tmp_path / "transformers")
    assert ours.config == right.config
    assert all(np.array_equal(ours.tensors[n].data, t.data) for n, t in right.tensors.items())


def test_weights_of_transformers_go_before_a_checkpoint(tmp_path: Path) -> None:
    published(tmp_path, "wav2vec2")
    (tmp_path / "other.pt").write_bytes(b"no checkpoint")
    assert wav2vec2.load_original(tmp_path, {"model_type": "wav2vec2"}) is None


def test_other_checkpoints_are_refused(tmp_path: Path) -> None:
    weights = {"a.weight": torch.ones(2)}
    torch.save({"args": argparse.Namespace(arch="transformer"), "model": weights}, tmp_path / "a.pt")
    with pytest.raises(UnsupportedModel, match="a checkpoint of 'transformer' is not covered"):
        wav2vec2.load_original(tmp_path, {"model_type": "wav2vec2"})
    torch.save({"args": argparse.Namespace(path=tmp_path), "model": weights}, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="would run code"):
        wav2vec2.load_original(tmp_path, {"model_type": "wav2vec2"})
