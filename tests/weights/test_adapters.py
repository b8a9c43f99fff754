"""LoRA adapters, merged at load: compared with peft 0.21 (see golden/make_adapters.py)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import adapter_bases as bases
import tokenizer_folders as folders
from omnivec.errors import ModelError, UnsupportedModel, WeightsError
from omnivec.inputs.text.text import INPUTS
from omnivec.models.model import read_model
from omnivec.ops import openvino
from omnivec.ops.base import EngineSettings
from omnivec.testing import check_close, open_model

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "adapters.npz")
CASES = [name.removesuffix("#base") for name in GOLDEN if name.endswith("#base")]


def base_folder(folder: Path, base: str) -> Path:
    """A base model with a tokenizer."""
    bases.network(base).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(folders.bert()), encoding="utf-8")
    return folder


def adapter_of(case: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Its config and tensors."""
    tensors = {name.partition("/")[2]: GOLDEN[name] for name in GOLDEN if name.startswith(f"{case}/")}
    return json.loads(str(GOLDEN[f"{case}#config"])), tensors


def write_adapter(folder: Path, case: str, drop: str = "\0", **changes: Any) -> Path:
    """An adapter's files in a folder, without the tensors whose names hold `drop`."""
    folder.mkdir(exist_ok=True)
    config, tensors = adapter_of(case)
    (folder / "adapter_config.json").write_text(json.dumps(config | changes))
    save_file({n: t for n, t in tensors.items() if drop not in n}, folder / "adapter_model.safetensors")
    return folder


def made(tmp_path: Path, case: str, **changes: Any) -> Path:
    """A folder that holds the base and the adapter."""
    return write_adapter(base_folder(tmp_path / "model", str(GOLDEN[f"{case}#base"])), case, **changes)


def states(folder: Path) -> np.ndarray:
    model = read_model(folder)
    run = openvino.compile_program(model.last, INPUTS, model.tensors, EngineSettings()).run
    found: np.ndarray = run(bases.BATCH)["states"][bases.BATCH["mask"] == 1]
    return found


@pytest.mark.parametrize("case", CASES)
def test_states_equal_those_of_peft(tmp_path: Path, case: str) -> None:
    check_close(states(made(tmp_path, case)), GOLDEN[f"{case}#states"], case)


def test_an_adapter_alone_finds_its_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = base_folder(tmp_path / "base", "bert")
    for i, name in enumerate((str(base), "../base")):
        folder = write_adapter(tmp_path / f"adapter {i}", "plain", base_model_name_or_path=name)
        check_close(states(folder), GOLDEN["plain#states"], name)
    monkeypatch.chdir(tmp_path)  # As peft has it.
    folder = write_adapter(tmp_path / "deep", "plain", base_model_name_or_path="base")
    check_close(states(folder), GOLDEN["plain#states"], "relative to where one stands")


def test_a_named_base_counts_more_than_weights_beside_the_adapter(tmp_path: Path) -> None:
    right = base_folder(tmp_path / "base", "bert")
    folder = made(tmp_path, "plain", base_model_name_or_path=str(right))
    wrong = bases.network("bert")
    bases.fill(wrong, 99)
    wrong.save_pretrained(folder)
    check_close(states(folder), GOLDEN["plain#states"], "as transformers loads it")


def test_a_base_of_the_hub_counts_less_than_weights_beside_the_adapter(tmp_path: Path) -> None:
    folder = made(tmp_path, "plain", base_model_name_or_path="no-such-org/no-such-model")
    check_close(states(folder), GOLDEN["plain#states"], "weights beside it")


def test_a_base_that_is_nowhere_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = write_adapter(tmp_path / "a", "plain", base_model_name_or_path="org/base", revision="v2")
    with pytest.raises(
        ModelError, match=r"adapter_config\.json: the base model 'org/base@v2' is not a folder and"
    ) as caught:
        read_model(folder)
    assert "\n" not in str(caught.value)
    folder = write_adapter(tmp_path / "b", "plain", base_model_name_or_path=None)
    with pytest.raises(ModelError, match="names no base model"):
        read_model(folder)


def test_an_adapter_of_an_adapter_is_refused(tmp_path: Path) -> None:
    first = made(tmp_path, "plain")
    second = write_adapter(tmp_path / "second", "rslora", base_model_name_or_path=str(first))
    with pytest.raises(UnsupportedModel, match="is itself an adapter"):
        read_model(second)


def test_torch_files_and_names_of_the_default_adapter_are_read(tmp_path: Path) -> None:
    folder = made(tmp_path, "plain")
    _, tensors = adapter_of("plain")
    (folder / "adapter_model.safetensors").unlink()
    long = {
        name.replace(".weight", ".default.weight"): torch.from_numpy(one) for name, one in tensors.items()
    }
    torch.save(long, folder / "adapter_model.bin")
    check_close(states(folder), GOLDEN["plain#states"], "adapter_model.bin")


def test_names_fit_with_and_without_the_prefix_of_a_head(tmp_path: Path) -> None:
    shutil.copytree(base_folder(tmp_path / "plain base", "bert"), tmp_path / "a")
    _, tensors = adapter_of("plain")
    folder = write_adapter(tmp_path / "a", "plain")
    save_file(
        {name.replace("base_model.model.", "base_model.model.bert."): one for name, one in tensors.items()},
        folder / "adapter_model.safetensors",
    )
    check_close(states(folder), GOLDEN["plain#states"], "a prefix in the adapter alone")


def test_the_formula(tmp_path: Path) -> None:
    config, tensors = adapter_of("plain")
    name = "encoder.layer.1.attention.self.query"
    a, b = (tensors[f"base_model.model.{name}.lora_{side}.weight"] for side in "AB")
    weight = bases.network("bert").state_dict()[f"{name}.weight"].numpy()
    merged = read_model(made(tmp_path, "plain")).tensors[f"{name}.weight"].float32()
    np.testing.assert_allclose(merged, weight + 7 / 3 * b @ a, atol=1e-6)
    assert (config["lora_alpha"], config["r"]) == (7, 3)


def test_the_adapter_is_part_of_the_identity_and_of_what_is_saved(tmp_path: Path) -> None:
    base = base_folder(tmp_path / "base", "bert")
    folder = made(tmp_path, "plain")
    model = open_model(folder)
    assert model.identity["weights"] != open_model(base).identity["weights"]
    saved = model.save(tmp_path / "saved")
    assert not [path.name for path in saved.iterdir() if path.name.startswith("adapter")]
    again = open_model(saved)
    assert again.identity == model.identity
    texts = ["the cat sat", "a new cat"]
    np.testing.assert_array_equal(again.encode(texts), model.encode(texts))
    alone = write_adapter(tmp_path / "alone", "plain", base_model_name_or_path=str(base))
    assert open_model(alone).identity == model.identity
    whole = open_model(open_model(alone).save(tmp_path / "whole"))
    np.testing.assert_array_equal(whole.encode(texts), model.encode(texts))


def test_an_adapter_in_a_module_of_sentence_transformers(tmp_path: Path) -> None:
    base_folder(tmp_path / "0_Transformer", "bert")
    write_adapter(tmp_path / "0_Transformer", "plain")
    modules = [("Transformer", "0_Transformer"), ("Pooling", "1_Pooling")]
    listed = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for kind, path in modules]
    (tmp_path / "modules.json").write_text(json.dumps(listed))
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    check_close(states(tmp_path), GOLDEN["plain#states"], "0_Transformer")


def test_heads_of_other_tasks_are_left_out(tmp_path: Path) -> None:
    folder = made(tmp_path, "plain")
    _, tensors = adapter_of("plain")
    head = {"base_model.model.classifier.modules_to_save.weight": np.zeros((2, 16), np.float32)}
    save_file(tensors | head, folder / "adapter_model.safetensors")
    check_close(states(folder), GOLDEN["plain#states"], "with a classifier")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another kind": ({"peft_type": "IA3"}, r"adapter_config\.json: peft_type 'IA3' is not covered.*merge"),
    "prompts": ({"peft_type": "PROMPT_TUNING"}, "peft_type 'PROMPT_TUNING'"),
    "loha": ({"peft_type": "LOHA"}, "peft_type 'LOHA'"),
    "no kind": ({"peft_type": None}, "peft_type None"),
    "a changed base": ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights 'pissa_niter_4' changed"),
    "layers again": ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
    "parameters": ({"target_parameters": ["experts"]}, "target_parameters"),
    "tokens": ({"trainable_token_indices": [1, 2]}, "trainable_token_indices"),
    "something new": ({"zeta_config": {"a": 1}}, "zeta_config"),
    "an expression": ({"alpha_pattern": {"(a*)*b": 3}}, r"alpha_pattern has '\(a\*\)\*b'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_covered_is_refused_by_name(tmp_path: Path, case: str) -> None:
    changes, message = REFUSED[case]
    with pytest.raises(UnsupportedModel, match=message) as caught:
        read_model(write_adapter(tmp_path, "plain", **changes))
    assert "\n" not in str(caught.value)


CONTRADICTIONS: dict[str, tuple[str, dict[str, Any], str]] = {
    "other modules": ("plain", {"target_modules": ["key"]}, r"target_modules \['key'\] does not fit .*query"),
    "fewer modules": (
        "plain",
        {"target_modules": ["query"]},
        r"target_modules \['query'\] does not fit .*value",
    ),
    "excluded": ("plain", {"exclude_modules": ["layer.1.attention.self.query"]}, "exclude_modules .*query"),
    "other layers": (
        "plain",
        {"layers_to_transform": [0]},
        r"layers_to_transform \[0\] does not fit .*layer\.1",
    ),
    "one layer": ("plain", {"layers_to_transform": 0, "layers_pattern": "layer"}, "layers_to_transform 0"),
    "another rank": ("plain", {"r": 8}, r"r is 8 at .*, but lora_A has the shape \(3, 16\)"),
    "a pattern's rank": ("plain", {"rank_pattern": {"value": 5}}, r"r is 5 at .*value"),
    "no dora": ("dora", {"use_dora": False}, "use_dora False does not fit"),
    "no bias": ("a bias of their own", {"lora_bias": None}, "lora_bias None does not fit"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_a_config_that_leaves_out_what_there_are_tensors_for_is_refused(tmp_path: Path, case: str) -> None:
    name, changes, message = CONTRADICTIONS[case]
    folder = made(tmp_path, name)
    read_model(folder)
    with pytest.raises(WeightsError, match=message) as caught:
        read_model(write_adapter(folder, name, **changes))
    assert "\n" not in str(caught.value)


def test_names_of_modules_fit_with_and_without_a_head(tmp_path: Path) -> None:
    layers = [f"encoder.layer.{i}.attention.self.{part}" for i in (0, 1) for part in ("query", "value")]
    for i, names in enumerate((layers, [f"bert.{name}" for name in layers])):
        (tmp_path / str(i)).mkdir()
        folder = made(tmp_path / str(i), "plain", target_modules=names, layers_to_transform=[])
        check_close(states(folder), GOLDEN["plain#states"], names[0])


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    folder = made(tmp_path, "plain")
    write_adapter(folder, "plain", drop="layer.0.attention.self.value.lora_B")
    with pytest.raises(
        WeightsError, match=r"layer\.0\.attention\.self\.value has only one of lora_A and lora_B"
    ):
        read_model(folder)
    write_adapter(folder, "dora", drop="magnitude")
    with pytest.raises(WeightsError, match="no lora_magnitude_vector"):
        read_model(folder)
    write_adapter(folder, "conv1d")
    with pytest.raises(
        WeightsError, match=r"changes 'h\.0\.attn\.c_attn\.weight', which its base does not have"
    ):
        read_model(folder)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"adapter_model\.safetensors or adapter_model\.bin is missing"):
        read_model(folder)
    (tmp_path / "x").mkdir()
    wide = made(tmp_path / "x", "plain")
    _, tensors = adapter_of("plain")
    name = "base_model.model.encoder.layer.0.attention.self.query.lora_B.weight"
    save_file(tensors | {name: np.zeros((20, 3), np.float32)}, wide / "adapter_model.safetensors")
    with pytest.raises(WeightsError, match=r"shape \(20, 16\), but its base has \(16, 16\)"):
        read_model(wide)
