"""Reads tensors from safetensors, torch (old and new, without torch), npz, CTranslate2 and ONNX files.

It also renames tensors to canonical names, and computes an identity of weights that does not depend on the file format.
"""

from __future__ import annotations

from omnivec.weights.checkpoints import read
from omnivec.weights.ctranslate2 import read_ctranslate2
from omnivec.weights.hashes import content_hashes, same_weights
from omnivec.weights.layouts import Row, rename, strip_prefixes
from omnivec.weights.onnx_file import OnnxGraph, read_onnx
from omnivec.weights.safetensors import save
from omnivec.weights.tensor import Tensor, Weights
from omnivec.weights.torchfile import read_torch

__all__ = [
    "OnnxGraph",
    "Row",
    "Tensor",
    "Weights",
    "content_hashes",
    "read",
    "read_ctranslate2",
    "read_onnx",
    "read_torch",
    "rename",
    "same_weights",
    "save",
    "strip_prefixes",
]
