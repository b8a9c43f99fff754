"""Any JSON at any key of a model's folder ends in a model that works, or in one line that names the file."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import omnivec
from checkpoints import bert
from omnivec import weights
from omnivec.collection.identity import identity_of
from omnivec.errors import ModelError
from omnivec.models.joint_folder import Joint, Side, write_joint
from omnivec.tables.formats.own import write_own
from omnivec.tables.record import Subwords, Table
from small_models import of_images

HOSTILE: list[Any] = [None, True, -1, 0, 10**9, 10**30, 1.5, math.nan, -math.inf, "", "x", "../../x"]
HOSTILE += [[], [[1]], {}, {"a": 1}, ["a", "b"], [0, -1, 2]]
NOT_OURS = ("tokenizer.json", "keys.json")


def sentence_bert(folder: Path) -> None:
    bert(folder, width=16, layers=1)
    rng = np.random.default_rng(0)
    files: dict[str, Any] = {
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(
                [
                    ("", "Transformer"),
                    ("1_Pooling", "Pooling"),
                    ("2_Dense", "Dense"),
                    ("3_Normalize", "Normalize"),
                ]
            )
        ],
        "1_Pooling/config.json": {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False},
        "2_Dense/config.json": {"in_features": 16, "out_features": 8, "bias": True},
        "sentence_bert_config.json": {"max_seq_length": 32, "do_lower_case": False},
        "config_sentence_transformers.json": {
            "prompts": {"query": "q: "},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    dense = {"linear.weight": rng.standard_normal((8, 16)), "linear.bias": np.ones(8)}
    weights.save(
        folder / "2_Dense" / "model.safetensors", {k: v.astype(np.float32) for k, v in dense.items()}
    )


def table(folder: Path) -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((23, 8)).astype(np.float32)
    said = {
        "labels": ["a", "b"],
        "loss": "softmax",
        "word_ngrams": 2,
        "prompts": {"q": "x"},
        "normalize": True,
    }
    own = Table(
        ["one", "two", "text"], rows[:3], subwords=Subwords(rows[3:], 3, 4), settings=said, output=rows[:2]
    )
    write_own(folder, own)


def joint(folder: Path) -> None:
    folder.mkdir()
    table(folder / "left")
    table(folder / "right")
    layers = ((np.ones((4, 8), np.float32), np.zeros(4, np.float32)),)
    write_joint(Joint(Side("a", layers), Side("b", layers), 10.0, {"method": "align"}), folder)


def adapter(folder: Path) -> None:
    """LoRA beside the base that it was trained on."""
    bert(folder, width=16, layers=1)
    said = {
        "peft_type": "LORA",
        "base_model_name_or_path": ".",
        "r": 2,
        "lora_alpha": 4,
        "alpha_pattern": {"query": 3},
        "rank_pattern": {"query": 2},
        "use_rslora": False,
        "use_dora": False,
        "target_modules": ["query"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(said))
    place = "base_model.model.encoder.layer.0.attention.self.query"
    parts = {"lora_A": np.ones((2, 16), np.float32), "lora_B": np.ones((16, 2), np.float32)}
    weights.save(
        folder / "adapter_model.safetensors", {f"{place}.{k}.weight": v / 10 for k, v in parts.items()}
    )


def images(folder: Path) -> None:
    """A network of images, with settings of transformers and of timm."""
    of_images(folder)
    said = json.loads((folder / "config.json").read_text())
    own = {"input_size": [3, 32, 32], "mean": [0.5, 0.5, 0.5], "interpolation": "bicubic", "crop_pct": 0.9}
    (folder / "config.json").write_text(json.dumps(said | {"pretrained_cfg": own}))


MAKERS = {
    "sentence_bert": sentence_bert,
    "table": table,
    "joint": joint,
    "adapter": adapter,
    "images": images,
}
PICTURE = np.full((40, 40, 3), 128, np.uint8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name, make in MAKERS.items():
        made[name] = tmp_path_factory.mktemp("made") / name
        make(made[name])
    return made


def keys_of(said: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in JSON, that of the whole too."""
    inner = said.items() if isinstance(said, dict) else enumerate(said) if isinstance(said, list) else ()
    return [at, *(path for key, value in inner for path in keys_of(value, (*at, key)))]


def changed(said: Any, path: tuple[Any, ...], value: Any) -> Any:
    """JSON with another value at a path; without it where the value is Ellipsis."""
    if not path:
        return None if value is ... else value
    copy = json.loads(json.dumps(said))
    place = copy
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return copy


@pytest.mark.parametrize("name", MAKERS)
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_json_at_any_key_is_a_model_or_an_error_that_names_the_file(folders, name, data):
    source = folders[name]
    files = sorted(path for path in source.rglob("*.json") if path.name not in NOT_OURS)
    file = data.draw(st.sampled_from([path for path in files if name != "joint" or path.parent == source]))
    said = json.loads(file.read_text())
    path = data.draw(st.sampled_from(keys_of(said)))
    value = data.draw(st.sampled_from([*HOSTILE, ...]))
    before = file.read_bytes()
    try:
        file.write_text(json.dumps(changed(said, path, value)))
        model = omnivec.load(source, threads=1)
        item = PICTURE if name == "images" else "one text"
        vector = getattr(model, "left", model).encode(item)
    except ModelError as error:
        # Settings that ask for other weights than there are may be right, and the weights wrong.
        named = "config.json" in str(error) or file.name in str(error) or "the weights lack" in str(error)
        assert named or "lora_magnitude_vector" in str(error), (file.name, path, value)
        assert len(str(error)) < 1000
    else:
        assert vector.dtype == np.float32 and np.isfinite(vector).all()
    finally:
        file.write_bytes(before)


BROKEN = {
    "empty": b"",
    "not utf-8": b'{"model_type": "\xff"}',
    "nested": b"[" * 200_000,
    "a list": b"[]",
    "a number": b"7",
}


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize(
    "file",
    [
        *("config.json", "modules.json", "1_Pooling/config.json", "2_Dense/config.json"),
        *("sentence_bert_config.json", "config_sentence_transformers.json", "tokenizer_config.json"),
    ],
)
def test_a_file_that_holds_something_else_is_named(folders, tmp_path, file, broken):
    folder = shutil.copytree(folders["sentence_bert"], tmp_path / "model")
    (folder / file).write_bytes(BROKEN[broken])
    if (file, broken) == ("modules.json", "a list"):
        pytest.skip("no modules: said elsewhere")
    with pytest.raises(ModelError, match=Path(file).name):
        omnivec.load(folder)


SIZES = ["vocab_size", "hidden_size", "intermediate_size", "max_position_embeddings", "num_attention_heads"]


@pytest.mark.parametrize("key", [*SIZES, "num_hidden_layers"])
@pytest.mark.parametrize("value", [10**9, 1 << 40])
def test_a_size_beyond_the_weights_makes_nothing_of_that_size(folders, tmp_path, key, value):
    folder = shutil.copytree(folders["sentence_bert"], tmp_path / "model")
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(said | {key: value}))
    with pytest.raises(ModelError, match=rf"config\.json: {key} is {value}"):
        omnivec.load(folder)


HOSTILE_CACHES: list[Any] = [b"", b"[" * 100_000, b"{}", b"[]", "entry", "identity", "seal", "weights"]


@pytest.mark.parametrize("damage", HOSTILE_CACHES, ids=lambda one: str(one)[:10])
def test_what_is_kept_of_a_model_never_changes_what_it_is(folders, tmp_path, damage):
    model, cache = omnivec.load(folders["table"]), tmp_path / "identities.json"
    right = identity_of(model, cache)
    kept = json.loads(cache.read_text())
    [place] = kept
    if isinstance(damage, bytes):
        cache.write_bytes(damage)
    else:
        if damage == "entry":
            kept[place] = {"state": kept[place]["state"]}
        elif damage == "weights":
            kept[place]["identity"]["weights"] = {"float32": "0" * 64}
        else:
            kept[place][damage] = [1]
        cache.write_text(json.dumps(kept))
    assert identity_of(model, cache) == right
    assert identity_of(model, cache) == right


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("lora_alpha", "x"), ("lora_alpha", []), ("alpha_pattern", 3), ("alpha_pattern", {"query": "x"})),
        *(("rank_pattern", [1]), ("rank_pattern", {"query": -1}), ("base_model_name_or_path", [1])),
    ],
)
def test_settings_of_an_adapter_of_another_type_are_named(folders, tmp_path, key, value):
    folder = shutil.copytree(folders["adapter"], tmp_path / "model")
    said = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(said | {key: value}))
    with pytest.raises(ModelError, match=rf"adapter_config\.json: {key}"):
        omnivec.load(folder)


def test_an_adapter_that_leaves_its_alpha_open_has_that_of_peft(folders, tmp_path):
    folder = shutil.copytree(folders["adapter"], tmp_path / "model")
    said = json.loads((folder / "adapter_config.json").read_text()) | {"alpha_pattern": {}}
    vectors = []
    for alpha in (8, None):
        (folder / "adapter_config.json").write_text(json.dumps(said | {"lora_alpha": alpha}))
        vectors.append(omnivec.load(folder).encode("one text"))
    assert np.array_equal(vectors[0], vectors[1])


@pytest.mark.parametrize("value", [True, 7, "x", [], [[1]]])
def test_a_pretrained_cfg_that_is_no_table_is_named(folders, tmp_path, value):
    folder = shutil.copytree(folders["images"], tmp_path / "model")
    (folder / "preprocessor_config.json").unlink()
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(said | {"pretrained_cfg": value}))
    with pytest.raises(ModelError, match=r"config\.json: pretrained_cfg"):
        omnivec.load(folder)


def test_a_width_of_a_resnet_that_its_weights_have_not_is_named(folders, tmp_path):
    folder = shutil.copytree(folders["images"], tmp_path / "model")
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(said | {"hidden_sizes": [8, 10**9]}))
    with pytest.raises(ModelError, match=r"config\.json: hidden_sizes ends with 1000000000"):
        omnivec.load(folder)
