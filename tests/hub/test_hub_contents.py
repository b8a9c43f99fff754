from __future__ import annotations

import json

import pytest

from omnivec.hub.completeness import is_whole, useful, weights


def test_of_a_published_repository_only_what_is_read_is_fetched():
    files = [
        ".gitattributes", "README.md", "config.json", "modules.json", "1_Pooling/config.json", "2_Dense/config.json",
        "2_Dense/pytorch_model.bin", "flax_model.msgpack", "model.fp16.safetensors", "model.safetensors",
        "onnx/model.onnx", "onnx/config.json", "openvino/openvino_model.bin", "openvino/config.json",
        "pytorch_model.bin", "rust_model.ot", "sentencepiece.bpe.model", "tf_model.h5", "tokenizer.json",
        "train_script.py", "vocab.txt", ".eval_results/x.json", "optimizer.pt",
    ]  # fmt: skip
    assert useful(files) == [
        "1_Pooling/config.json",
        "2_Dense/config.json",
        "config.json",
        "modules.json",
        "sentencepiece.bpe.model",
        "tokenizer.json",
        "vocab.txt",
        "2_Dense/pytorch_model.bin",  # this module has no safetensors, the one above has
        "model.safetensors",
    ]


def test_an_adapter_without_its_weights_is_not_whole(tmp_path):
    for name in ("adapter_config.json", "config.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    assert not is_whole(tmp_path, {})
    (tmp_path / "adapter_model.bin").write_text("x")
    assert is_whole(tmp_path, {})
    (tmp_path / "config.json").unlink()
    (tmp_path / "model.safetensors").unlink()
    assert is_whole(tmp_path, {})  # its base is another model


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["pytorch_model.bin", "training_args.bin"], ["pytorch_model.bin"]),
        (["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"], None),
        (["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"], None),
        (["model.safetensors.index.json", "model-00001-of-00001.safetensors", "consolidated.safetensors"],
         ["model-00001-of-00001.safetensors"]),
        (["adapter_model.safetensors", "adapter_model.bin"], ["adapter_model.safetensors"]),
        (["adapter_model.bin", "model.safetensors"], ["adapter_model.bin", "model.safetensors"]),
        (["embedding_model.ckpt", "hyperparams.yaml"], ["embedding_model.ckpt"]),
        (["model.bin"], None),
        (["model.bin", "model.safetensors"], ["model.safetensors"]),
        (["tf_model.h5", "flax_model.msgpack", "onnx/model.safetensors", "optimizer.pt"], []),
    ],
)  # fmt: skip
def test_weights_in_the_forms_there_are(files, expected):
    assert weights(files) == (files if expected is None else expected)


def _folder(tmp_path, files):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


INDEX = json.dumps(
    {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
)
MODULES = json.dumps(
    [{"type": "x.Transformer", "path": ""}, {"type": "x.Pooling", "path": "1_Pooling"},
     {"type": "x.Normalize", "path": "2_Normalize"}]
)  # fmt: skip


@pytest.mark.parametrize(
    ("files", "whole"),
    [
        ({"config.json": "{}", "model.safetensors": ""}, True),
        ({"config.json": "{}"}, False),
        ({"config.yaml": "", "avg_model.pt": ""}, True),
        ({"config.yaml": ""}, False),
        ({"model.safetensors": ""}, False),
        ({"config.json": "{}", "onnx/model.onnx": ""}, False),
        ({"config.json": "", "model.safetensors.index.json": INDEX, "model-00001-of-00002.safetensors": ""}, False),
        ({"config.json": "", "model.safetensors.index.json": INDEX, "model-00001-of-00002.safetensors": "",
          "model-00002-of-00002.safetensors": ""}, True),
        ({"modules.json": MODULES, "model.safetensors": ""}, False),
        ({"modules.json": MODULES, "model.safetensors": "", "1_Pooling/config.json": ""}, True),
        ({"modules.json": "[{", "model.safetensors": ""}, False),
    ],
)  # fmt: skip
def test_a_folder_is_whole_when_all_that_it_names_is_there(tmp_path, files, whole):
    assert is_whole(_folder(tmp_path, files), {}) is whole


def test_a_known_model_is_whole_when_its_files_are_there(tmp_path):
    folder = _folder(tmp_path, {"hyperparams.yaml": "", "embedding_model.ckpt": ""})
    assert not is_whole(folder, {})
    assert is_whole(folder, {"embedding_model.ckpt": "0"})
    assert not is_whole(folder, {"embedding_model.ckpt": "0", "mean.ckpt": "0"})


def test_a_dangling_link_is_no_file(tmp_path):
    folder = _folder(tmp_path, {"config.json": "{}"})
    (folder / "model.safetensors").symlink_to(tmp_path / "blobs" / "gone")
    assert not is_whole(folder, {})
