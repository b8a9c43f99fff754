"""SpeechBrain's ECAPA-TDNN of VoxCeleb as a plain statement in torch, with its front end, for benchmarks.

Desplanques et al. 2020, arXiv:2005.07143; names and order of operations are those of the published checkpoint. Sounds
of one length are computed together, as SpeechBrain does if it is asked to.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from omnivec.inputs.audio.features.settings import SPEECHBRAIN_ECAPA

BANDS, CHANNELS, LAST, ATTENTION, SQUEEZE, DIM = 80, 1024, 3072, 128, 128, 192

SETTINGS = f"""
n_mels: {BANDS}
pretrained_path: speechbrain/spkrec-ecapa-voxceleb
out_n_neurons: 7205
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: !ref <n_mels>
mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False
embedding_model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: !ref <n_mels>
    channels: [{CHANNELS}, {CHANNELS}, {CHANNELS}, {CHANNELS}, {LAST}]
    kernel_sizes: [5, 3, 3, 3, 1]
    dilations: [1, 2, 3, 4, 1]
    attention_channels: {ATTENTION}
    lin_neurons: {DIM}
"""


class Named(torch.nn.Module):
    """Layers under the names that SpeechBrain's wrappers give them."""

    def __init__(self, **layers: torch.nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)


def tdnn(before: int, after: int, kernel: int = 1, dilation: int = 1) -> Any:
    """Convolution and batch norm."""
    conv = torch.nn.Conv1d(before, after, kernel, dilation=dilation)
    return Named(conv=Named(conv=conv), norm=Named(norm=torch.nn.BatchNorm1d(after)))


def pointwise(before: int, after: int) -> Any:
    """A convolution of kernel 1."""
    return Named(conv=torch.nn.Conv1d(before, after, 1))


class Ecapa(torch.nn.Module):
    """The network: samples (n,) of each sound, all of one length -> vectors (n, 192)."""

    def __init__(self) -> None:
        super().__init__()
        blocks = [tdnn(BANDS, CHANNELS, 5)]
        for dilation in (2, 3, 4):
            inner = [tdnn(CHANNELS // 8, CHANNELS // 8, 3, dilation) for _ in range(7)]
            blocks.append(
                Named(
                    tdnn1=tdnn(CHANNELS, CHANNELS),
                    res2net_block=Named(blocks=torch.nn.ModuleList(inner)),
                    tdnn2=tdnn(CHANNELS, CHANNELS),
                    se_block=Named(conv1=pointwise(CHANNELS, SQUEEZE), conv2=pointwise(SQUEEZE, CHANNELS)),
                )
            )
        self.blocks = torch.nn.ModuleList(blocks)
        self.mfa = tdnn(3 * CHANNELS, LAST)
        self.asp = Named(tdnn=tdnn(3 * LAST, ATTENTION), conv=pointwise(ATTENTION, LAST))
        self.asp_bn = Named(norm=torch.nn.BatchNorm1d(2 * LAST))
        self.fc = pointwise(2 * LAST, DIM)
        bank = SPEECHBRAIN_ECAPA.filters.matrix(400)
        self.register_buffer("bank", torch.from_numpy(bank.copy()), persistent=False)

    def features(self, sounds: torch.Tensor) -> torch.Tensor:
        """Samples (n, t) -> log-mel in dB without its mean over time, (n, bands, frames)."""
        window = torch.hamming_window(400)
        spectrum = torch.stft(sounds, 400, 160, window=window, pad_mode="constant", return_complex=True)
        mel = torch.einsum("nft,fb->nbt", spectrum.abs().square(), self.bank)
        levels = 10 * torch.log10(mel.clamp(min=1e-10))
        levels = torch.maximum(levels, levels.amax((1, 2), keepdim=True) - 80)
        return levels - levels.mean(2, keepdim=True)

    def layer(self, p: Any, x: torch.Tensor) -> torch.Tensor:
        """Reflection, convolution, ReLU, batch norm."""
        conv = p.conv.conv
        reach = conv.dilation[0] * (conv.kernel_size[0] - 1) // 2
        x = F.pad(x, (reach, reach), mode="reflect") if reach else x
        return torch.as_tensor(p.norm.norm(F.relu(conv(x))))

    def block(self, p: Any, x: torch.Tensor) -> torch.Tensor:
        """Res2Net of eight pieces between two layers, squeeze and excitation, and the input added."""
        pieces = list(self.layer(p.tdnn1, x).chunk(8, 1))
        for i in range(1, 8):
            inner = pieces[i] + pieces[i - 1] if i > 1 else pieces[i]
            pieces[i] = self.layer(p.res2net_block.blocks[i - 1], inner)
        y = self.layer(p.tdnn2, torch.cat(pieces, 1))
        gate = F.relu(p.se_block.conv1.conv(y.mean(2, keepdim=True)))
        return x + y * torch.sigmoid(p.se_block.conv2.conv(gate))

    def forward(self, sounds: torch.Tensor) -> torch.Tensor:
        """Samples (n, t) -> vectors (n, 192)."""
        states = [self.layer(self.blocks[0], self.features(sounds))]
        for block in list(self.blocks)[1:]:
            states.append(self.block(block, states[-1]))
        x = self.layer(self.mfa, torch.cat(states[1:], 1))
        mean, std = moments(x, torch.full_like(x[:, :1], 1 / x.shape[2]))
        scores = self.layer(self.asp.tdnn, torch.cat([x, mean.expand_as(x), std.expand_as(x)], 1))
        mean, std = moments(x, torch.softmax(self.asp.conv.conv(torch.tanh(scores)), 2))
        pooled = self.asp_bn.norm(torch.cat([mean, std], 1))
        return torch.as_tensor(self.fc.conv(pooled)[:, :, 0])


def moments(x: torch.Tensor, shares: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted mean and standard deviation over time, (n, c, 1) each."""
    mean = (shares * x).sum(2, keepdim=True)
    return mean, (shares * (x - mean) ** 2).sum(2, keepdim=True).clamp(min=1e-12).sqrt()


class Reference:
    """The network on samples of NumPy."""

    def __init__(self, model: Ecapa) -> None:
        self.model = model

    def __call__(self, sounds: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Samples (n,) of each sound, all of one length -> vectors (n, 192)."""
        with torch.no_grad():
            return np.asarray(self.model(torch.from_numpy(np.stack(sounds))).numpy())


def publish(folder: Path) -> Reference:
    """Writes a checkpoint of random weights that keep the size of states, as SpeechBrain publishes one."""
    generator = torch.Generator().manual_seed(7)
    model = Ecapa()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim > 1:
                gain = 0.2 if "tdnn2" in name else 2
                p.copy_(torch.randn(p.shape, generator=generator) * (gain / p[0].numel()) ** 0.5)
    torch.save(model.state_dict(), folder / "embedding_model.ckpt")
    (folder / "hyperparams.yaml").write_text(SETTINGS)
    return Reference(model.eval())
