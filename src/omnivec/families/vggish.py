"""VGGish: a VGG network over patches of 0.96 s of a log-mel spectrogram, for sounds of any kind.

Hershey et al. 2017, arXiv:1609.09430; weights as torchvggish publishes them, which differ from Google's current release
in a last ReLU. A vector is the mean over the patches of a sound. A folder holds vggish-10086976.pth, and may hold
vggish_pca_params.npz: each patch is then whitened and quantised to 0 to 255, as the published features of AudioSet are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from omnivec import weights
from omnivec.errors import UnsupportedModel, WeightsError
from omnivec.families._classes import refuse_settings
from omnivec.inputs.audio.features.settings import VGGISH
from omnivec.inputs.audio.processing import SoundProcessing
from omnivec.ops.base import Ops, Params, Value
from omnivec.ops.maps import by_item
from omnivec.validation.typed import Among, Size
from omnivec.weights.numpyfile import read_npz
from omnivec.weights.tensor import from_array

CLAIMS = {
    "model_type": ["vggish"],
    "files": {"vggish-10086976.pth": {"model_type": "vggish"}},
    "modality": "audio",
}

POOLING = "mean"

_FRAMES, _BANDS = VGGISH.rows
_FILE = "vggish-10086976.pth"
_PCA = "vggish_pca_params.npz"
# torchvggish's copy of it: NumPy arrays in a pickle.
_PICKLED = "vggish_pca_params-970ea276.pth"
_LIMIT = 2.0

# Places of the convolutions in the published sequence; a maximum over 2 x 2 follows some.
_CONVOLUTIONS = (0, 3, 6, 8, 11, 13)
_POOLED = (0, 3, 8, 13)


@dataclass(frozen=True)
class Config:
    """What varies between the published forms of the model.

    Attributes:
        relu: whether the last layer is rectified, as torchvggish does and Google's current release does not.
        postprocess: what is done to the vector of a patch: "none"; "pca", whitening; "quantized", whitening, clipping
            to -2 to 2 and rounding to 0 to 255.
        dim: length of a vector.
    """

    relu: bool = True
    postprocess: Annotated[str, Among(("none", "pca", "quantized"))] = "none"
    dim: Size = 128


def load_original(
    folder: Path, published: Mapping[str, Any]
) -> tuple[Mapping[str, Any], weights.Weights, None] | None:
    """The config and weights of a folder with torchvggish's file; None for one written by `save`.

    Raises:
        WeightsError: a file is damaged, or not of this model.
        UnsupportedModel: the whitening is there as torchvggish publishes it only, as a pickle.
    """
    if not (folder / _FILE).is_file():
        return None
    config, stored = {"model_type": "vggish", **published}, weights.read(folder / _FILE)
    if not (folder / _PCA).is_file():
        if (folder / _PICKLED).is_file():
            raise UnsupportedModel(
                f"{folder / _PICKLED} holds pickled NumPy arrays, which are not read: put Google's {_PCA} in its "
                "place, which has the same, or remove it for vectors without whitening"
            )
        return config, stored, None
    arrays = read_npz(folder / _PCA)
    if missing := {"pca_eigen_vectors", "pca_means"} - set(arrays):
        raise WeightsError(f"{folder / _PCA} lacks {min(missing)}: it is not VGGish's")
    tensors = {
        **stored,
        "pca.weight": from_array("pca.weight", arrays["pca_eigen_vectors"].astype(np.float32)),
        "pca.means": from_array("pca.means", arrays["pca_means"].reshape(-1).astype(np.float32)),
    }
    return (
        {"postprocess": "quantized", **config},
        weights.Weights(tensors, (*stored.files, folder / _PCA)),
        None,
    )


def sound(config: Config, settings: Mapping[str, Any]) -> SoundProcessing:
    """Patches of 96 frames of a log-mel spectrogram; zeros are appended to a sound shorter than one patch."""
    refuse_settings(settings, "VGGish")
    shortest = VGGISH.shortest
    return SoundProcessing(
        rate=16_000, features=VGGISH, seconds=60.0, shortest=shortest, short="zeros", states=_same
    )


def _same(rows: int) -> int:
    """The number of states: one for each patch."""
    return rows


def forward(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """batch.sound (n, t, 96, 64) float32, patches -> (n, t, dim) float32."""
    x = ops.reshape(batch.sound, (-1, 1, _FRAMES, _BANDS))
    for place in _CONVOLUTIONS:
        x = ops.relu(ops.conv(x, p[f"features.{place}"], (1, 1), (1, 1)))
        if place in _POOLED:
            x = ops.max_pool(x, (2, 2), (2, 2), (0, 0))
    # The checkpoint was made by TensorFlow, which flattens (time, bands, channels).
    x = ops.reshape(ops.transpose(x, (0, 2, 3, 1)), (0, -1))
    for place in (0, 2):
        x = ops.relu(ops.linear(x, p[f"embeddings.{place}"]))
    x = ops.linear(x, p["embeddings.4"])
    x = ops.relu(x) if config.relu else x
    if config.postprocess != "none":
        x = ops.linear(x - p["pca.means"], p["pca"])
    if config.postprocess == "quantized":
        x = (ops.clip(x, -_LIMIT, _LIMIT) + _LIMIT) * (255 / (2 * _LIMIT))
        x = ops.cast(ops.cast(x + 0.5, "int32"), "float32")  # rounded: nothing is negative here
    return ops.state(by_item(ops, x, batch.sound))


SHAPES = {
    "embeddings.4.weight": ("dim", ""),
    "pca.weight": ("dim", "dim"),
    "pca.means": ("dim",),
}

PREFIXES = ("module.",)

LAYOUTS: list[weights.Row] = []

KNOWN: dict[str, dict[str, Any]] = {}
