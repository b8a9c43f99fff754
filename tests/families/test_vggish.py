"""VGGish against a plain statement in torch, from files as torchvggish publishes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from encoders import ENGINES, changed
from omnivec.errors import UnsupportedModel, WeightsError
from omnivec.families import vggish
from omnivec.testing import check_close, check_family, check_rejected
from pictures import with_operation
from sound_families import check_against, loaded, sounds, voices
from sound_models import SoundModel

ROWS = (96, 64)
# An eighth of the published widths, which would make the tests slow.
WIDTHS = ((0, 1, 8), (3, 8, 16), (6, 16, 32), (8, 32, 32), (11, 32, 64), (13, 64, 64))


class Reference(torch.nn.Module):
    """The network as torchvggish tells it, with the published names."""

    def __init__(self) -> None:
        super().__init__()
        self.features = torch.nn.ModuleDict(
            {str(place): torch.nn.Conv2d(a, b, 3, padding=1) for place, a, b in WIDTHS}
        )
        sizes = ((0, 64 * 24, 160), (2, 160, 144), (4, 144, 128))
        self.embeddings = torch.nn.ModuleDict({str(i): torch.nn.Linear(a, b) for i, a, b in sizes})
        self.pca: tuple[torch.Tensor, torch.Tensor] | None = None
        self.post = "none"

    def forward(self, patches: torch.Tensor) -> Sequence[torch.Tensor]:
        """Patches (t, 96, 64) of one sound -> their vectors (t, 128), twice: as a state and as the result."""
        x = patches[:, None]
        for place in ("0", "3", "6", "8", "11", "13"):
            x = F.relu(self.features[place](x))
            x = F.max_pool2d(x, 2) if place in ("0", "3", "8", "13") else x
        # (t, channels, time, bands) -> time, bands, channels
        x = x.permute(0, 2, 3, 1).flatten(1)
        for i in ("0", "2", "4"):
            x = F.relu(self.embeddings[i](x))
        if self.pca is not None:
            x = (self.pca[0].double() @ (x.T - self.pca[1].double().reshape(-1, 1))).T
        if self.post == "quantized":
            x = torch.round((x.clamp(-2, 2) + 2) * 63.75)
        return [x, x]


def published(folder: Path, post: str = "none", seed: int = 0) -> Reference:
    """A random checkpoint of torchvggish, with the whitening if its results are to be quantised."""
    folder.mkdir(exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    network = Reference()
    with torch.no_grad():
        for p in network.parameters():
            noise = torch.randn(p.shape, generator=generator)
            p.copy_(noise * 1.4 / p[0].numel() ** 0.5 if p.ndim > 1 else 0.1 * noise)
    torch.save(network.state_dict(), folder / "vggish-10086976.pth")
    network.post = post
    if post != "none":
        vectors = torch.randn(128, 128, generator=generator) / 4
        means = torch.randn(128, 1, generator=generator) / 4
        arrays = {"pca_eigen_vectors": vectors.numpy(), "pca_means": means.numpy()}
        np.savez(folder / "vggish_pca_params.npz", **arrays)
        network.pca = vectors, means
    return network


@pytest.fixture(scope="module")
def made(tmp_path_factory: Any) -> tuple[SoundModel, Reference]:
    folder = tmp_path_factory.mktemp("vggish")
    network = published(folder)
    return loaded(vggish, folder), network


def test_patches_equal_torch(made: tuple[SoundModel, Reference]) -> None:
    ours, network = made
    check_against(ours, network.double(), sounds((2, 1, 3), *ROWS))


def test_whitened_and_quantised(tmp_path: Path) -> None:
    network = published(tmp_path, "quantized")
    ours = loaded(vggish, tmp_path)
    listed = sounds((2, 1), *ROWS)
    with torch.no_grad():
        expected = [network.double()(torch.from_numpy(s).double())[0].numpy() for s in listed]
    for engine in ENGINES:
        got = ours.states(engine, listed)[-1]
        for ours_of_one, theirs in zip(got, expected, strict=True):
            # Float32 rounds a value in ten thousand to the neighbouring integer.
            differ = ours_of_one[: len(theirs)] != theirs
            assert differ.mean() < 0.01 and np.abs(ours_of_one[: len(theirs)] - theirs).max() <= 1
        assert {got.min(), got.max()} == {0.0, 255.0}
    network.post = "pca"
    with torch.no_grad():
        exact = network(torch.from_numpy(listed[0]).double())[0].numpy()
    whitened = ours.states("torch", listed, changed(vggish, postprocess="pca"))[-1]
    check_close(whitened[0], exact, "whitened")


VARIANTS = {
    "channels, time, bands": with_operation(vggish, "transpose", lambda right, x, order: x),
    "channels, bands, time": with_operation(
        vggish, "transpose", lambda right, x, order: x.transpose(2, 3).contiguous()
    ),
    "Google's last layer": changed(vggish, relu=False),
    "means for maxima": with_operation(vggish, "max_pool", lambda right, x, *how: F.avg_pool2d(x, 2)),
    "GELU for ReLU": with_operation(vggish, "relu", lambda right, x: F.gelu(x)),
    "no zeros around": with_operation(
        vggish,
        "conv",
        lambda right, x, p, *how: right(F.pad(x, (1, 1, 1, 1), mode="replicate"), p, (1, 1), (0, 0)),
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_wrong_variants_are_told_apart(made: tuple[SoundModel, Reference], variant: str) -> None:
    ours, network = made
    listed = sounds((1,), *ROWS, seed=1)
    with torch.no_grad():
        expected = network.double()(torch.from_numpy(listed[0]).double())[0].numpy()[None]
    check_close(ours.states("torch", listed)[-1], expected, "the right one")
    check_rejected(ours.states("torch", listed, VARIANTS[variant])[-1], expected, variant)


def test_what_it_reads_of_a_sound() -> None:
    reads = vggish.sound(vggish.Config(), {})
    assert (reads.rate, reads.features.rows, reads.shortest, reads.short) == (16_000, ROWS, 15_600, "zeros")
    assert [reads.features.count(n) for n in (15_599, 15_600, 30_959, 30_960)] == [0, 1, 1, 2]
    assert len(reads.rows_of(np.ones(100, np.float32))) == 1


def test_a_file_of_another_whitening_is_named(tmp_path: Path) -> None:
    published(tmp_path)
    np.savez(tmp_path / "vggish_pca_params.npz", means=np.ones(3))
    with pytest.raises(WeightsError, match="lacks pca_eigen_vectors"):
        vggish.load_original(tmp_path, {})


def test_it_is_a_family(tmp_path: Path) -> None:
    published(tmp_path, "pca")
    check_family(tmp_path, voices(0.4, 2.1, 1.2))


def test_the_pickled_whitening_is_refused_and_not_passed_over(tmp_path: Path) -> None:
    published(tmp_path, "quantized")
    (tmp_path / "vggish_pca_params-970ea276.pth").write_bytes(b"")
    assert loaded(vggish, tmp_path).config.postprocess == "quantized"
    (tmp_path / "vggish_pca_params.npz").unlink()
    with pytest.raises(UnsupportedModel, match=r"put Google's vggish_pca_params\.npz in its place"):
        vggish.load_original(tmp_path, {})
