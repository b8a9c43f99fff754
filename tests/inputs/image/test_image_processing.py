"""Published preprocessing, pixel for pixel: against transformers' processors, and timm's and OpenCLIP's written out."""

from __future__ import annotations

import importlib
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import photographs
from omnivec.errors import ModelError, UnsupportedModel
from omnivec.inputs.image.image import ImagePreparer
from omnivec.inputs.image.processing import FILTERS, Processing
from omnivec.inputs.image.published import from_open_clip, from_timm, from_transformers, read_processing

# type -> where transformers has its PIL-based processor
REFERENCES = {
    "ViT": "vit",
    "DeiT": "deit",
    "Beit": "beit",
    "CLIP": "clip",
    "ChineseCLIP": "chinese_clip",
    "Bit": "bit",
    "Siglip": "siglip",
    "Blip": "blip",
    "Pvt": "pvt",
    "MobileNetV1": "mobilenet_v1",
    "MobileNetV2": "mobilenet_v2",
    "MobileViT": "mobilevit",
    "Levit": "levit",
    "PoolFormer": "poolformer",
    "ConvNext": "convnext",
    "EfficientNet": "efficientnet",
}
SAID = {
    "nothing": {},
    "raw pixels": {"do_normalize": False, "do_rescale": False, "include_top": False},
    "odd sizes": {"size": {"height": 225, "width": 173}, "crop_size": {"height": 191, "width": 160}},
    "odd edges": {"size": {"shortest_edge": 225}, "crop_size": 191, "do_center_crop": True},
    "a number": {"size": 236, "crop_size": 207, "resample": 1},
    "the nearest": {"resample": 0, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]},
    "a scale": {"rescale_factor": 1 / 127.5, "rescale_offset": True, "include_top": False, "resample": 5},
    "no resizing": {"do_resize": False, "do_center_crop": True, "crop_size": 97, "resample": 4},
}


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    """Real photographs of many odd sizes, smaller than the model's input among them."""
    boxes = {
        "astronaut": (3, 5, 500, 300),
        "rocket": (0, 0, 101, 333),
        "coffee": (0, 0, 599, 400),
        "china": (20, 30, 77, 59),
        "chelsea": (0, 0, 224, 224),
        "logo": (0, 0, 259, 257),
    }
    return [photographs.rgb(name).crop(box) for name, box in boxes.items()]


def shown(processing: Processing, image: Image.Image) -> np.ndarray:
    """The model's pixels (h, w, 3) uint8."""
    preparer = ImagePreparer(processing)
    rows: Any = preparer.prepare([preparer.decode(image)])
    ((row,),) = rows
    return row.arrays["pixels"]


def normalised(processing: Processing, image: Image.Image) -> np.ndarray:
    """What the graph makes of them: (3, h, w) float32."""
    factor, addend = processing.affine()
    return (shown(processing, image) * factor + addend).transpose(2, 0, 1)


@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
@pytest.mark.parametrize("kind", REFERENCES)
def test_equal_to_transformers(kind, said, images):
    place = f"transformers.models.{REFERENCES[kind]}.image_processing_pil_{REFERENCES[kind]}"
    reference = getattr(importlib.import_module(place), f"{kind}ImageProcessorPil")(**said)
    try:
        processing = from_transformers({"image_processor_type": f"{kind}ImageProcessorFast", **said})
    except KeyError:
        assert kind == "ConvNext" and said is SAID["odd sizes"], "the one type that needs a shortest edge"
        return
    except UnsupportedModel:
        shapes = {reference(image)["pixel_values"][0].shape for image in images}
        assert len(shapes) > 1, "what is refused must be what gives images of many shapes"
        return
    for image in images:
        want = np.asarray(reference(image)["pixel_values"][0])
        got = normalised(processing, image)
        assert got.shape == want.shape
        assert np.abs(got - want).max() <= 1e-6 * max(1.0, np.abs(want).max())
        if said is SAID["raw pixels"]:
            assert np.array_equal(shown(processing, image).transpose(2, 0, 1), want)


def test_dinov3_is_resized_to_8_bits_of_its_reference(images):
    """Its reference, which needs torchvision, resizes floats: torch's antialiased bilinear filter is that step."""
    torch = pytest.importorskip("torch")
    processing = from_transformers({"image_processor_type": "DINOv3ViTImageProcessorFast"})
    for image in images:
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
        want = torch.nn.functional.interpolate(pixels, (224, 224), mode="bilinear", antialias=True)[0]
        assert np.abs(shown(processing, image) - want.permute(1, 2, 0).numpy()).max() < 1.6


def timm_eval(image: Image.Image, cfg: dict) -> np.ndarray:
    """timm.data.transforms_imagenet_eval, said again: (3, h, w) float64."""
    size, mean, std = cfg["input_size"][1:], cfg["mean"], cfg["std"]
    scale = [math.floor(side / cfg["crop_pct"]) for side in size]
    method = getattr(Image.Resampling, cfg["interpolation"].upper())
    width, height = image.size
    mode = cfg.get("crop_mode", "center")
    fill = (0, 0, 0)
    if mode == "squash":
        new = scale
    elif mode == "border":
        ratio = max(height / scale[0], width / scale[1])
        new = [round(height / ratio), round(width / ratio)]
        fill = tuple(round(255 * m) for m in mean)
    elif scale[0] == scale[1]:  # torchvision's Resize of a number
        new = [scale[0], int(scale[0] * width / height)]
        if width <= height:
            new = [int(scale[0] * height / width), scale[0]]
    else:
        ratio = min(height / scale[0], width / scale[1])
        new, method = [round(height / ratio), round(width / ratio)], Image.Resampling.BILINEAR
    pixels = np.asarray(image.resize((new[1], new[0]), method))
    return (centre(pixels, size, fill) / 255 - mean).transpose(2, 0, 1) / np.array(std)[:, None, None]


def centre(pixels: np.ndarray, size: tuple[int, int], fill: tuple[int, ...]) -> np.ndarray:
    """torchvision's CenterCrop: what is too small is padded first, half a pixel more at the end."""
    short = [max(0, want - have) for want, have in zip(size, pixels.shape, strict=False)]
    pads = [(n // 2, (n + 1) // 2) for n in short]
    padded = np.stack([np.pad(pixels[..., c], pads, constant_values=fill[c]) for c in range(3)], -1)
    top, left = (round((have - want) / 2) for have, want in zip(padded.shape, size, strict=False))
    return padded[top : top + size[0], left : left + size[1]]


TIMM = {
    "resnet50.a1": {"input_size": [3, 224, 224], "crop_pct": 0.95, "interpolation": "bicubic"},
    "vgg16": {"input_size": [3, 224, 224], "crop_pct": 0.875, "interpolation": "bilinear"},
    "whole": {
        "input_size": [3, 225, 225],
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "crop_mode": "squash",
    },
    "squash": {
        "input_size": [3, 224, 192],
        "crop_pct": 0.9,
        "interpolation": "lanczos",
        "crop_mode": "squash",
    },
    "border": {
        "input_size": [3, 224, 224],
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "crop_mode": "border",
    },
    "tight border": {
        "input_size": [3, 171, 224],
        "crop_pct": 0.9,
        "interpolation": "bicubic",
        "crop_mode": "border",
    },
    "oblong": {"input_size": [3, 160, 224], "crop_pct": 0.9, "interpolation": "bicubic"},
    "enlarged": {"input_size": [3, 225, 225], "crop_pct": 1.1, "interpolation": "bicubic"},
}


@pytest.mark.parametrize("cfg", TIMM.values(), ids=TIMM)
def test_equal_to_timm(cfg, images):
    cfg = {**cfg, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    processing = from_timm({**cfg, "first_conv": "conv1", "license": "apache-2.0"})
    for image in images:
        assert np.abs(normalised(processing, image) - timm_eval(image, cfg)).max() <= 1e-6


def test_what_timm_leaves_out_is_as_timm_has_it(images):
    usual = {"input_size": [3, 224, 224], "crop_pct": 0.875, "interpolation": "bicubic"}
    usual |= {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    assert np.abs(normalised(from_timm({}), images[0]) - timm_eval(images[0], usual)).max() <= 1e-6


@pytest.mark.parametrize(
    ("said", "same"),
    [
        ({}, {}),
        ({"size": [224, 224], "interpolation": "random"}, {}),
        (
            {"size": 240, "interpolation": "bilinear"},
            {"input_size": [3, 240, 240], "interpolation": "bilinear"},
        ),
        ({"size": 225, "resize_mode": "squash"}, {"input_size": [3, 225, 225], "crop_mode": "squash"}),
        (
            {"resize_mode": "longest", "mean": [0.0] * 3, "std": [1.0] * 3},
            {"crop_mode": "border", "mean": [0.0] * 3},
        ),
    ],
)
def test_equal_to_open_clip(said, same, images):
    cfg = {"input_size": [3, 224, 224], "crop_pct": 1.0, "interpolation": "bicubic", **same}
    clip = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
    cfg = {**cfg, **clip, **{key: value for key, value in said.items() if key in clip}}
    for image in images:
        assert np.abs(normalised(from_open_clip(said), image) - timm_eval(image, cfg)).max() <= 1e-6


@settings(max_examples=200, deadline=None)
@given(height=st.integers(1, 3000), width=st.integers(1, 3000), edge=st.integers(1, 512))
def test_a_shortest_edge_is_cut_as_both_publishers_cut_it(height, width, edge):
    from transformers.image_transforms import get_resize_output_image_size

    want = get_resize_output_image_size(
        np.broadcast_to(np.uint8(0), (3, height, width)),
        edge,
        default_to_square=False,
        input_data_format="channels_first",
    )
    assert Processing((edge, edge), (edge, edge)).resized(height, width) == want


def test_a_wrong_geometry_is_told_apart(images):
    """Each variant that looks nearly the same fails the comparison that the true one passes."""
    from dataclasses import replace

    true = from_transformers({"image_processor_type": "CLIPImageProcessor", "size": 239, "crop_size": 224})
    wrong = [
        replace(true, filter="bilinear"),
        replace(true, filter="lanczos"),
        replace(true, centre="even"),
        replace(true, fit="exact"),
        replace(true, target=(240, 240)),
        replace(true, order="BGR"),
    ]
    for variant in wrong:
        assert any(not np.array_equal(shown(variant, image), shown(true, image)) for image in images), variant


def write(folder, name: str, content: object) -> None:
    (folder / name).write_text(json.dumps(content), encoding="utf-8")


def test_a_folder_says_how_its_images_are_prepared(tmp_path):
    with pytest.raises(ModelError, match="does not specify the preprocessing of images"):
        read_processing(tmp_path)
    write(
        tmp_path, "config.json", {"architecture": "resnet18", "pretrained_cfg": {"input_size": [3, 200, 200]}}
    )
    assert read_processing(tmp_path) == from_timm({"input_size": [3, 200, 200]})
    write(tmp_path, "open_clip_config.json", {"model_cfg": {}, "preprocess_cfg": {"size": 240}})
    assert read_processing(tmp_path) == from_open_clip({"size": 240})
    vit = {"feature_extractor_type": "ViTFeatureExtractor", "size": 384}
    write(tmp_path, "preprocessor_config.json", vit)
    assert read_processing(tmp_path) == from_transformers(vit)
    assert read_processing(tmp_path).size == (384, 384)
    write(tmp_path, "processor_config.json", {"processor_class": "CLIPProcessor"})
    assert read_processing(tmp_path) == from_transformers(vit)
    clip = {"image_processor_type": "CLIPImageProcessor"}
    write(tmp_path, "processor_config.json", {"image_processor": clip})
    assert read_processing(tmp_path) == from_transformers(clip)


@pytest.mark.parametrize(
    ("said", "error", "why"),
    [
        (
            {"image_processor_type": "Qwen2VLImageProcessor"},
            UnsupportedModel,
            "'Qwen2VLImageProcessor' is not covered",
        ),
        ({}, UnsupportedModel, "'of no stated type' is not covered"),
        (
            {"image_processor_type": "BitImageProcessor", "do_center_crop": False},
            UnsupportedModel,
            "images of different shapes cannot be batched",
        ),
        ({"image_processor_type": "ViTImageProcessor", "do_pad": True}, UnsupportedModel, "do_pad"),
        (
            {"image_processor_type": "ViTImageProcessor", "size": {"shortest_edge": 1, "longest_edge": 2}},
            UnsupportedModel,
            "longest_edge",
        ),
        ({"image_processor_type": "ViTImageProcessor", "size": {"side": 1}}, ModelError, "lacks a value"),
        (
            {"image_processor_type": "ViTImageProcessor", "image_mean": [0.5, 0.5]},
            ModelError,
            "image_mean is [0.5, 0.5], where a list of 3",
        ),
        (
            {"image_processor_type": "ViTImageProcessor", "resample": 17},
            ModelError,
            "resample is 17, where",
        ),
        ([1], ModelError, "holds a list"),
    ],
)
def test_what_cannot_be_done_names_the_file_and_the_reason(tmp_path, said, error, why):
    write(tmp_path, "preprocessor_config.json", said)
    with pytest.raises(error) as failed:
        read_processing(tmp_path)
    message = str(failed.value)
    assert (
        message.startswith(f"{tmp_path}/preprocessor_config.json") and why in message and "\n" not in message
    )


def test_filters_are_pillows_numbers():
    assert [int(getattr(Image.Resampling, name.upper())) for name in FILTERS] == [0, 1, 2, 3, 4, 5]
