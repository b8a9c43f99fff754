"""Checkpoints of fairseq (wav2vec 2.0, HuBERT, Data2Vec) and of WavLM's authors, with nearly the same names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omnivec.errors import UnsupportedModel
from omnivec.families._fairseq import convolutions
from omnivec.weights import Row

_CONVOLUTIONS = "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512, 2, 2)] * 2"

# Key of transformers -> key of fairseq, and fairseq's default, which its checkpoints may leave out.
_SETTINGS: Mapping[str, tuple[str, Any]] = {
    "hidden_size": ("encoder_embed_dim", 768),
    "num_hidden_layers": ("encoder_layers", 12),
    "num_attention_heads": ("encoder_attention_heads", 12),
    "intermediate_size": ("encoder_ffn_embed_dim", 3072),
    "hidden_act": ("activation_fn", "gelu"),
    "do_stable_layer_norm": ("layer_norm_first", False),
    "conv_bias": ("conv_bias", False),
    "num_conv_pos_embeddings": ("conv_pos", 128),
    "num_conv_pos_embedding_groups": ("conv_pos_groups", 16),
    "do_normalize": ("normalize", False),
}
_WAVLM: Mapping[str, tuple[str, Any]] = {
    "num_buckets": ("num_buckets", 320),
    "max_bucket_distance": ("max_distance", 1280),
}


def config_of(settings: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The config, as transformers would state it, of the settings of a checkpoint.

    Settings of a model that was tuned for CTC hold those of the pretrained one as `w2v_args`.

    Raises:
        UnsupportedModel: the checkpoint is of another kind of model.
    """
    inner = settings.get("w2v_args")
    if isinstance(inner, Mapping):
        model = inner.get("model")
        settings = {
            **(model if isinstance(model, Mapping) else inner),
            "normalize": settings.get("normalize"),
        }
    if "encoder_embed_dim" not in settings and "extractor_mode" not in settings:
        name = settings.get("arch") or settings.get("_name")
        raise UnsupportedModel(
            f"{file}: a checkpoint of {name!r} is not covered, nor is it one of wav2vec 2.0"
        )
    wanted = {**_SETTINGS, **(_WAVLM if settings.get("relative_position_embedding") else {})}
    stated = {key: settings.get(name) for key, (name, _) in wanted.items()}
    config = {key: wanted[key][1] if value is None else value for key, value in stated.items()}
    layers = convolutions(str(settings.get("conv_feature_layers") or _CONVOLUTIONS), file)
    for key, values in zip(
        ("conv_dim", "conv_kernel", "conv_stride"), zip(*layers, strict=True), strict=True
    ):
        config[key] = list(values)
    is_grouped = settings.get("extractor_mode", "default") == "default"
    return {**config, "feat_extract_norm": "group" if is_grouped else "layer", **_kind(settings, config)}


def _kind(settings: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The model type, with what only this type has."""
    depth = settings.get("pos_conv_depth") or 1
    if settings.get("relative_position_embedding"):
        return {"model_type": "wavlm"}
    if depth > 1:  # The places of one wide kernel are spread over several convolutions.
        kernel = max(3, config["num_conv_pos_embeddings"] // depth)
        return {
            "model_type": "data2vec-audio",
            "num_conv_pos_embeddings": depth,
            "conv_pos_kernel_size": kernel,
        }
    name = str(settings.get("_name") or settings.get("arch") or "")
    return {"model_type": "hubert" if name.startswith("hubert") else "wav2vec2"}


_LAYER, _OURS = r"encoder\.layers\.(\d+)\.", r"encoder.layers.\1."
_PLACES = "encoder.pos_conv_embed"

LAYOUTS: list[Row] = [
    (r"feature_extractor\.conv_layers\.(\d+)\.0\.(weight|bias)", r"feature_extractor.conv_layers.\1.conv.\2"),
    (
        r"feature_extractor\.conv_layers\.(\d+)\.2\.(?:1\.)?(weight|bias)",
        r"feature_extractor.conv_layers.\1.layer_norm.\2",
    ),
    (r"post_extract_proj\.(weight|bias)", r"feature_projection.projection.\1"),
    (r"layer_norm\.(weight|bias)", r"feature_projection.layer_norm.\1"),
    (r"encoder\.pos_conv\.0\.bias", f"{_PLACES}.conv.bias"),
    (r"encoder\.pos_conv\.0\.weight_g", f"{_PLACES}.conv.parametrizations.weight.original0"),
    (r"encoder\.pos_conv\.0\.weight_v", f"{_PLACES}.conv.parametrizations.weight.original1"),
    (r"encoder\.pos_conv\.(\d+)\.0\.(weight|bias)", _PLACES + r".layers.\1.conv.\2"),
    (_LAYER + r"self_attn\.((?:q|k|v|out)_proj)\.(weight|bias)", _OURS + r"attention.\2.\3"),
    (_LAYER + r"self_attn\.grep_linear\.(weight|bias)", _OURS + r"attention.gru_rel_pos_linear.\2"),
    (_LAYER + r"self_attn\.grep_a", _OURS + "attention.gru_rel_pos_const"),
    (_LAYER + r"self_attn\.relative_attention_bias\.weight", _OURS + "attention.rel_attn_embed.weight"),
    (_LAYER + r"self_attn_layer_norm\.(weight|bias)", _OURS + r"layer_norm.\2"),
    (_LAYER + r"fc1\.(weight|bias)", _OURS + r"feed_forward.intermediate_dense.\2"),
    (_LAYER + r"fc2\.(weight|bias)", _OURS + r"feed_forward.output_dense.\2"),
    (r"w2v_encoder\.proj\.(weight|bias)", r"lm_head.\1"),
    # What is only needed for training.
    (r"(input_quantizer|project_inp|target_glu|final_proj|regression_head|_ema)\..*", None),
    (r"mask_emb|label_embs_concat|.*\.mask_emb", None),
]
