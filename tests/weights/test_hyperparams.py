"""Settings in YAML are read as plain values: nothing that they name is made, and no file takes long."""

from __future__ import annotations

from pathlib import Path

import pytest

from omnivec.errors import ModelError
from omnivec.weights.hyperparams import read_hyperparams


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "hyperparams.yaml"


def test_values_references_and_tags(file: Path) -> None:
    file.write_text(
        """
n_mels: 80
rate: 1.0e-3
pretrained_path: some/where
sizes: [5, !ref <n_mels>, [1, true, null]]
features: !new:speechbrain.lobes.features.Fbank
    n_mels: !ref <n_mels>
    inner: {f_max: !ref <rate>}
activation: !name:torch.nn.LeakyReLU
again: !ref <features>
paths: {model: !ref <pretrained_path>/model.ckpt, half: !ref <n_mels> // 2}
data: !PLACEHOLDER
__set_seed: !apply:torch.manual_seed [!ref <n_mels>]
"""
    )
    features = {"!": "new:speechbrain.lobes.features.Fbank", "n_mels": 80, "inner": {"f_max": 1e-3}}
    assert read_hyperparams(file) == {
        "n_mels": 80,
        "rate": 1e-3,
        "pretrained_path": "some/where",
        "sizes": [5, 80, [1, True, None]],
        "features": features,
        "activation": {"!": "name:torch.nn.LeakyReLU"},
        "again": features,
        "paths": {"model": "<pretrained_path>/model.ckpt", "half": "<n_mels> // 2"},
        "data": {"!": "PLACEHOLDER"},
        "__set_seed": {"!": "apply:torch.manual_seed", "items": [80]},
    }


def test_nothing_is_run(file: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for text in (
        f"a: !apply:os.system ['touch {mark}']",
        f"a: !new:pathlib.Path.touch ['{mark}']",
        "a: !name:os.system",
    ):
        file.write_text(text)
        read_hyperparams(file)
    for text in (
        f"a: !!python/object/apply:os.system ['touch {mark}']",
        "a: !!python/name:os.system",
        "a: !!python/object/new:os.system [true]",
    ):
        file.write_text(text)
        with pytest.raises(ModelError, match="is not YAML that can be read"):
            read_hyperparams(file)
    assert not mark.exists()


LAUGHS = "\n".join(
    [
        "a: &a [1, 1]",
        *(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefghij", "bcdefghijk", strict=True)),
    ]
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1, 2", "is not YAML"),
        ("- 1\n- 2", "not a table"),
        ("", "not a table"),
        ("a: \x00", "is not YAML"),
        ("? [1, 2]\n: 3", "is not YAML"),
        ("a: !ref <b>\nb: !ref <a>", "without end"),
        ("a: [!ref <a>, !ref <a>]", "without end"),
        ("a: &a [*a]", "without end"),
        (LAUGHS, "without end"),
        ("a: " + "[" * 5000, "is not YAML"),
        ("a: " + "x" * (1 << 20), "larger than 1 MiB"),
        ("a: 2024-99-99", "is not YAML"),
    ],
    ids=str.__len__,
)
def test_what_cannot_be_read_is_an_error(file: Path, text: str, words: str) -> None:
    file.write_text(text)
    with pytest.raises(ModelError, match=words):
        read_hyperparams(file)


def test_a_missing_file_is_named(file: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        read_hyperparams(file)
