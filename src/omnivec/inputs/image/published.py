"""Reads the preprocessing of a model from its folder, from files of transformers, OpenCLIP or timm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from omnivec.errors import ModelError, UnsupportedModel
from omnivec.inputs.image.processing import FILTERS, Filter, Fit, Processing, Triple
from omnivec.validation import typed
from omnivec.validation.json_files import read_json
from omnivec.validation.typed import Among, Between, Count, Positive, Side

IMAGENET: Mapping[str, Any] = {
    "input_size": (3, 224, 224),
    "crop_pct": 0.875,
    "interpolation": "bicubic",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
}
"""The preprocessing of most networks trained on ImageNet, and timm's defaults for a pretrained_cfg, in its keys."""

_IMAGENET: Mapping[str, Any] = {"image_mean": IMAGENET["mean"], "image_std": IMAGENET["std"]}
_CLIP: Mapping[str, Any] = {
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711),
}
_SQUARE: Mapping[str, Any] = {
    "do_resize": True,
    "size": {"height": 224, "width": 224},
    "resample": 3,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": (0.5, 0.5, 0.5),
    "image_std": (0.5, 0.5, 0.5),
}
_SHORTEST: Mapping[str, Any] = {
    **_SQUARE,
    "size": {"shortest_edge": 224},
    "default_to_square": False,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
}
_MOBILENET: Mapping[str, Any] = {**_SHORTEST, "resample": 2, "size": {"shortest_edge": 256}}

# image_processor_type without its suffix: defaults of transformers for keys that a file does not have.
_TYPES: Mapping[str, Mapping[str, Any]] = {
    "ViT": {**_SQUARE, "resample": 2},
    "DeiT": {**_SHORTEST, "size": {"height": 256, "width": 256}, "default_to_square": True},
    "Beit": {**_SQUARE, "crop_size": {"height": 224, "width": 224}},
    "CLIP": {**_SHORTEST, **_CLIP},
    "ChineseCLIP": {**_SHORTEST, **_CLIP},
    "Bit": {**_SHORTEST, **_CLIP},
    "Siglip": {**_SQUARE, "default_to_square": False},
    "Blip": {**_SQUARE, **_CLIP, "size": {"height": 384, "width": 384}},
    "Pvt": {**_SQUARE, **_IMAGENET},
    "DINOv3ViT": {**_SQUARE, **_IMAGENET, "resample": 2},
    "MobileNetV1": _MOBILENET,
    "MobileNetV2": _MOBILENET,
    "MobileViT": {
        **_SHORTEST,
        "crop_size": {"height": 256, "width": 256},
        "do_normalize": False,
        "do_flip_channel_order": True,
    },
    "Levit": {**_SHORTEST, **_IMAGENET, "crop_pct": 224 / 256, "crop_rule": "edge"},
    "PoolFormer": {**_SHORTEST, **_IMAGENET, "crop_pct": 0.9, "crop_rule": "any"},
    "ConvNext": {
        **_SQUARE,
        "size": {"shortest_edge": 384},
        "default_to_square": False,
        "crop_pct": 224 / 256,
        "crop_rule": "below 384",
    },
    "EfficientNet": {
        **_SQUARE,
        "size": {"height": 346, "width": 346},
        "crop_size": {"height": 289, "width": 289},
        "rescale_offset": False,
        "include_top": True,
    },
}
# model_type of config.json: the type that transformers uses if preprocessor_config.json names none.
_OF_MODELS: Mapping[str, str] = {
    **dict.fromkeys(("clip", "clip_vision_model"), "CLIP"),
    **dict.fromkeys(("siglip", "siglip_vision_model"), "Siglip"),
    **dict.fromkeys(("vit", "vit_mae", "vit_msn", "ijepa"), "ViT"),
    **dict.fromkeys(("dinov2", "dinov2_with_registers"), "Bit"),
    "deit": "DeiT",
    "dinov3_vit": "DINOv3ViT",
    "efficientnet": "EfficientNet",
    "resnet": "ConvNext",
}
# Keys that are only used by the types that have them above.
_OWN = ("crop_pct", "rescale_offset", "include_top", "do_flip_channel_order")
_SUFFIXES = ("ImageProcessorFast", "ImageProcessorPil", "ImageProcessor", "FeatureExtractor")


Sides = Side | tuple[Side, Side] | Mapping[str, Side | None]
Share = Annotated[float, Between(0.2, 1.0)]
Numbers = float | tuple[float, float, float]
Deviation = Annotated[float, Between(1e-6, 1e6)]
Deviations = Deviation | tuple[Deviation, Deviation, Deviation]


@dataclass(frozen=True)
class _Processor:
    """The keys of transformers' preprocessor_config.json that are read."""

    image_processor_type: str | None = None
    feature_extractor_type: str | None = None
    do_resize: bool | None = None
    do_center_crop: bool | None = None
    do_rescale: bool | None = None
    do_normalize: bool | None = None
    do_pad: bool | None = None
    do_flip_channel_order: bool | None = None
    default_to_square: bool | None = None
    include_top: bool | None = None
    rescale_offset: bool | None = None
    size: Sides | None = None
    crop_size: Sides | None = None
    crop_pct: Share | None = None
    resample: Annotated[int, Between(0, len(FILTERS) - 1)] | None = None
    rescale_factor: Positive | None = None
    image_mean: Numbers | None = None
    image_std: Deviations | None = None


@dataclass(frozen=True)
class _Processors:
    """The keys of transformers' processor_config.json that are read."""

    image_processor: _Processor | None = None


@dataclass(frozen=True)
class _OpenClipPreprocessing:
    """The keys of preprocess_cfg in open_clip_config.json that are read."""

    size: Side | tuple[Side, Side] | None = None
    interpolation: str | None = None
    resize_mode: Annotated[str, Among(("shortest", "longest", "squash"))] | None = None
    fill_color: Annotated[int, Between(0, 255)] | None = None
    mean: Numbers | None = None
    std: Deviations | None = None


@dataclass(frozen=True)
class _Timm:
    """The keys of pretrained_cfg in timm's config.json that are read."""

    input_size: tuple[Count, Side, Side] | None = None
    crop_pct: Share | None = None
    crop_mode: str | None = None
    interpolation: Annotated[str, Among(FILTERS)] | None = None
    mean: Numbers | None = None
    std: Deviations | None = None


Colours = Annotated[int, Among((3,))]
"""num_channels of a config."""
Plain = Annotated[Mapping[str, Any], Among(({},))]
"""model_args of a config of timm, which change the architecture that it names."""


def read_processing(folder: Path, usual: Mapping[str, Any] | None = None) -> Processing:
    """Reads the preprocessing of the model in a folder.

    Args:
        folder: folder of the model.
        usual: defaults of the family in timm's keys, for what no file specifies; None if there are none.

    Raises:
        UnsupportedModel: the preprocessing is not supported.
        ModelError: no file specifies the preprocessing, or a file is damaged.
    """
    nested = typed.table(_Processors, folder / "processor_config.json", {}).get("image_processor")
    sources: tuple[tuple[str, Any, Callable[[Mapping[str, Any]], Processing]], ...] = (
        ("processor_config.json", nested, from_transformers),
        (
            "preprocessor_config.json",
            _given(_Processor, folder / "preprocessor_config.json"),
            from_transformers,
        ),
        (
            "open_clip_config.json",
            _part(folder, "open_clip_config.json", "preprocess_cfg", _OpenClipPreprocessing),
            from_open_clip,
        ),
        ("config.json", _timm(folder, usual), from_timm),
    )
    for name, config, read in sources:
        if config is None:
            continue
        try:
            return read(_typed(config, folder) if read is from_transformers else config)
        except ModelError as error:
            raise type(error)(f"{folder}/{name}: {error}") from error
        except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError, AttributeError) as error:
            raise ModelError(
                f"{folder}/{name} lacks a value or has an invalid one: {error!r}; download the model again"
            ) from error
    raise ModelError(
        f"{folder} does not specify the preprocessing of images: it has no preprocessor_config.json, no preprocess_cfg "
        "in open_clip_config.json and no pretrained_cfg in config.json"
    )


def _typed(config: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """Returns the content of a processor's file; a missing type is set by the model type in config.json."""
    if config.get("image_processor_type") or config.get("feature_extractor_type"):
        return config
    published = read_json(folder / "config.json", default={}, kind=dict)
    type_name = published.get("image_processor_type")
    usual = _OF_MODELS.get(str(published.get("model_type")))
    if not type_name and usual is None:
        return config
    return {**config, "image_processor_type": type_name or f"{usual}ImageProcessor"}


def _timm(folder: Path, usual: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    config = _part(folder, "config.json", "pretrained_cfg", _Timm)
    return config if usual is None else {**usual, **(config or {})}


def _given(record: type, path: Path) -> dict[str, Any] | None:
    return typed.table(record, path) if path.exists() else None


def _part(folder: Path, name: str, key: str, record: type) -> dict[str, Any] | None:
    raw = read_json(folder / name, default={}, kind=dict).get(key)
    return None if raw is None else typed.overlaid(record, raw, folder / name, key)


def from_transformers(config: Mapping[str, Any]) -> Processing:
    """Makes the preprocessing from a preprocessor_config.json; missing keys have the defaults of its type."""
    type_name = _kind(config)
    row = _TYPES[type_name]
    settings = {**row}
    settings |= {
        key: value for key, value in config.items() if value is not None and (key in row or key not in _OWN)
    }
    if settings.get("do_pad"):
        raise UnsupportedModel(f"{type_name} with do_pad: images padded to each other's size are not covered")
    fit, target, size = _geometry(type_name, settings)
    scale = float(settings["rescale_factor"]) if settings["do_rescale"] else 1.0
    mean, std = _triple(settings["image_mean"]), _triple(settings["image_std"])
    if not settings["do_normalize"]:
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if settings.get("rescale_offset"):  # pixel * scale - 1, before the mean is taken off
        mean = _triple([m + 1 for m in mean])
    if settings.get("include_top"):  # divides by the standard deviation a second time
        again = _triple(settings["image_std"])
        std = _triple([one * other for one, other in zip(std, again, strict=True)])
    return Processing(
        size=size,
        target=target,
        fit=fit,
        filter=FILTERS[settings["resample"]],
        mean=mean,
        std=std,
        scale=scale,
        order="BGR" if settings.get("do_flip_channel_order") else "RGB",
    )


def _kind(config: Mapping[str, Any]) -> str:
    full = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
    type_name = next((full.removesuffix(end) for end in _SUFFIXES if full.endswith(end)), full)
    if type_name not in _TYPES:
        known = ", ".join(sorted(_TYPES))
        raise UnsupportedModel(
            f"image processor {full or 'of no stated type'!r} is not covered; these are: {known}"
        )
    return type_name


def _geometry(type_name: str, settings: Mapping[str, Any]) -> tuple[Fit, tuple[int, int], tuple[int, int]]:
    """Returns how to resize, the target of resizing, and the size of the crop."""
    crop = _square(settings["crop_size"]) if settings.get("do_center_crop") else None
    fit: Fit = "none"
    target = crop or (0, 0)
    if settings["do_resize"]:
        fit, target, crop = _resize(settings, crop)
    size = crop or (target if fit == "exact" else None)
    if size is None:
        raise UnsupportedModel(
            f"{type_name} with size {settings['size']} and no crop: images of different shapes cannot be batched"
        )
    return fit, target, size


def _resize(
    settings: Mapping[str, Any], crop: tuple[int, int] | None
) -> tuple[Fit, tuple[int, int], tuple[int, int] | None]:
    size, share, rule = settings["size"], settings.get("crop_pct"), settings.get("crop_rule")
    if not isinstance(size, Mapping):
        square = settings.get("default_to_square", True) or not isinstance(size, int)
        size = (
            dict(zip(("height", "width"), _square(size), strict=True)) if square else {"shortest_edge": size}
        )
    if "longest_edge" in size or "max_height" in size:
        raise UnsupportedModel(f"size {size}: images of different shapes cannot be batched")
    if "shortest_edge" not in size and rule != "below 384":
        height, width = int(size["height"]), int(size["width"])
        if rule != "any" or share is None:
            return "exact", (height, width), crop
        target = int(height / share), int(width / share)
        return ("shortest" if height == width else "exact"), target, crop
    edge = int(size["shortest_edge"])
    if rule == "below 384":  # ConvNeXt crops to the size, and does not crop large inputs
        if edge >= 384:
            return "exact", (edge, edge), crop
        crop = crop or (edge, edge)
    edge = int(edge / share) if share else edge
    return "shortest", (edge, edge), crop


def from_open_clip(config: Mapping[str, Any]) -> Processing:
    """Makes the preprocessing from `preprocess_cfg` of an open_clip_config.json."""
    settings: dict[str, Any] = {
        "size": 224,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
        "fill_color": 0,
    }
    settings |= {"mean": _CLIP["image_mean"], "std": _CLIP["image_std"]}
    settings |= {key: value for key, value in config.items() if value is not None}
    size = _square(settings["size"])
    fits: dict[str, Fit] = {"longest": "contain", "squash": "exact", "shortest": _covering(size)}
    fit = fits[settings["resize_mode"]]
    fill = int(settings["fill_color"])
    return Processing(
        size=size,
        target=size,
        fit=fit,
        filter="bilinear" if settings["interpolation"] == "bilinear" and fit != "cover" else "bicubic",
        centre="even",
        fill=(fill, fill, fill),
        mean=_triple(settings["mean"]),
        std=_triple(settings["std"]),
    )


def from_timm(config: Mapping[str, Any]) -> Processing:
    """Makes timm's preprocessing for evaluation from `pretrained_cfg` of a config.json."""
    settings = {**IMAGENET, "crop_mode": "center"} | {key: value for key, value in config.items() if value}
    channels, *size = settings["input_size"]
    if channels != 3:
        raise UnsupportedModel(
            f"input_size {settings['input_size']}: a model of {channels} channels, not of 3 colours"
        )
    target = int(size[0] / settings["crop_pct"]), int(size[1] / settings["crop_pct"])
    fits: dict[str, Fit] = {"squash": "exact", "border": "contain"}
    fit = fits.get(settings["crop_mode"], _covering(target))
    mean = _triple(settings["mean"])
    red, green, blue = (round(255 * channel) for channel in mean)
    return Processing(
        size=(int(size[0]), int(size[1])),
        target=target,
        fit=fit,
        # If the target is not square, timm always resizes with the bilinear filter.
        filter="bilinear" if fit == "cover" else _filter(settings["interpolation"]),
        centre="even",
        fill=(red, green, blue) if fit == "contain" else (0, 0, 0),
        mean=mean,
        std=_triple(settings["std"]),
    )


def _covering(target: tuple[int, int]) -> Fit:
    return "shortest" if target[0] == target[1] else "cover"


def _filter(name: str) -> Filter:
    return FILTERS[FILTERS.index(name)]


def _square(size: Any) -> tuple[int, int]:
    """Returns (h, w) from a number, a pair or a table."""
    if isinstance(size, Mapping):
        return int(size["height"]), int(size["width"])
    if isinstance(size, int):
        return size, size
    height, width = size
    return int(height), int(width)


def _triple(values: Any) -> Triple:
    if isinstance(values, int | float):
        return float(values), float(values), float(values)
    one, two, three = values
    return float(one), float(two), float(three)
