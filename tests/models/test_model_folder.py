"""Each row of the table in docs/load.md: a file or key of a model's folder is obeyed, refused by name, or irrelevant.

Vectors are compared with sentence-transformers 6, ids with transformers 4.57 (tests/golden/make_tokenizer_ids.py),
adapters with peft 0.21 (tests/golden/make_adapters.py). What is irrelevant leaves identity and ids as they are: all
that vectors hang on.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

import checkpoints
import omnivec
import photographs
import tokenizer_folders as folders
import tokenizer_rows  # noqa: F401  (its rows)
from folder_rows import FULL, ROWS, change, equal, published_ids, refused, row, same
from omnivec.errors import ModelError, UnsupportedModel, WeightsError
from omnivec.models.folder import SENTENCE
from omnivec.models.model import read_model, read_models
from omnivec.testing import check_close, open_model


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with all usual modules, as sentence-transformers saves it."""
    folder = tmp_path_factory.mktemp("published")
    checkpoints.bert(folder / "base", layers=1, width=32)
    torch.manual_seed(0)
    parts = [
        st.Transformer(str(folder / "base")),
        st.Pooling(32),
        st.Dense(32, 24),
        st.Dropout(),
        st.Normalize(),
    ]
    SentenceTransformer(modules=parts).save(str(folder / "model"))
    return folder / "model"


@pytest.fixture
def folder(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "model"))


NOT_VECTORS = {
    "embeddings.LayerNorm.weight": lambda a: a[:1],
    "encoder.layer.0.output.LayerNorm.weight": lambda a: a[0],
    "encoder.layer.0.attention.self.query.bias": lambda a: a[:1],
    "encoder.layer.0.intermediate.dense.bias": lambda a: a[None],
    "encoder.layer.0.output.dense.bias": lambda a: a[0],
}


@pytest.mark.parametrize("name", NOT_VECTORS)
def test_a_bias_or_norm_that_would_be_stretched_is_named(folder: Path, name: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors[name] = np.array(NOT_VECTORS[name](tensors[name]))
    save_file(tensors, folder / "model.safetensors")
    stem = name.rpartition(".")[0]
    with pytest.raises(
        WeightsError, match=rf"{re.escape(stem)}\.(weight|bias) is .*damaged, or of another model"
    ):
        read_models(folder)


def test_the_table_and_its_tests_agree() -> None:
    text = (Path(__file__).parents[2] / "docs" / "load.md").read_text(encoding="utf-8")
    table = text.partition("<!-- folder table -->")[2].partition("<!-- end of folder table -->")[0]
    first = [
        line.split("|")[1].strip().replace("`", "") for line in table.splitlines() if line.startswith("| `")
    ]
    assert len(first) == len(set(first))
    assert set(first) == set(ROWS)


@row("config.json model_type and sizes")
def _config(folder: Path) -> None:
    model = read_model(folder)
    change(folder / "config.json", layer_norm_eps=1e-3)
    assert read_model(folder).identity != model.identity
    equal(folder)


@row("config.json auto_map")
def _code(folder: Path) -> None:
    change(folder / "config.json", auto_map={"AutoModel": "own.BertModel"})
    refused(folder, r"config\.json: auto_map names a network whose code is in the folder, own\.BertModel")


@row("config.json quantization_config pruned_heads")
def _quantized(folder: Path) -> None:
    change(folder / "config.json", pruned_heads={"0": [1]})
    refused(folder, r"config\.json: pruned_heads")
    change(folder / "config.json", quantization_config={"quant_method": "awq"})
    refused(folder, r"config\.json has a quantization_config")


@row("config.json torch_dtype dtype architectures use_cache and the like")
def _about(folder: Path) -> None:
    about = {
        "torch_dtype": "bfloat16",
        "dtype": "float16",
        "architectures": ["BertForMaskedLM"],
        "use_cache": True,
    }
    about |= {"output_hidden_states": True, "id2label": {"0": "x"}, "tie_word_embeddings": False}
    same(folder, lambda: change(folder / "config.json", **about, transformers_version="4.0.0"))


@row("config.json tokenizer_class")
def _class_of_config(folder: Path) -> None:
    published_ids(folder, "bert, class of config.json", "llama, by its model type", "llama, no settings")


@row("generation_config.json README.md")
def _beside(folder: Path) -> None:
    same(folder, lambda: change(folder / "generation_config.json", max_length=2))
    same(folder, lambda: (folder / "README.md").write_text("pooling: cls"))


@row("model.safetensors pytorch_model.bin and their indexes")
def _weights(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    hashes = read_model(folder).identity["weights"]
    torch.save({name: one + 1 for name, one in tensors.items()}, folder / "pytorch_model.bin")
    assert read_model(folder).identity["weights"] == hashes
    (folder / "model.safetensors").unlink()
    assert read_model(folder).identity["weights"] != hashes
    save_file(tensors, folder / "model-00001-of-00001.safetensors")
    index = {"weight_map": dict.fromkeys(tensors, "model-00001-of-00001.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert read_model(folder).identity["weights"] == hashes


@row("onnx/ openvino/ tf_model.h5 model.gguf and the like")
def _copies(folder: Path) -> None:
    def changed() -> None:
        for name in (
            "onnx/model.onnx",
            "openvino/openvino_model.xml",
            "tf_model.h5",
            "model.gguf",
            "rust_model.ot",
        ):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(b"x")

    same(folder, changed)


@row("adapter_config.json adapter_model.safetensors adapter_model.bin")
def _adapters(folder: Path) -> None:
    before = read_model(folder).tensors["encoder.layer.0.attention.self.query.weight"].float32()
    a, b = np.ones((2, 32), np.float32), np.full((32, 2), 0.5, np.float32)
    name = "base_model.model.encoder.layer.0.attention.self.query.lora_"
    torch.save(
        {f"{name}{side}.weight": torch.from_numpy(one) for side, one in (("A", a), ("B", b))},
        folder / "adapter_model.bin",
    )
    change(folder / "adapter_config.json", peft_type="LORA", r=2, lora_alpha=8)
    after = read_model(folder).tensors["encoder.layer.0.attention.self.query.weight"].float32()
    np.testing.assert_allclose(after, before + 4.0, atol=1e-5)
    change(folder / "adapter_config.json", peft_type="LOHA")
    refused(folder, r"adapter_config\.json: peft_type 'LOHA'")


@row("modules.json modules of sentence-transformers")
def _modules(folder: Path) -> None:
    equal(folder)
    listed = json.loads((folder / "modules.json").read_text())
    for kind in (
        "WeightedLayerPooling",
        "CNN",
        "LSTM",
        "WordWeights",
        "BoW",
        "WordEmbeddings",
        "StaticEmbedding",
    ):
        other = {"type": f"sentence_transformers.models.{kind}", "path": ""}
        (folder / "modules.json").write_text(json.dumps([listed[0], other, *listed[1:]]))
        refused(folder, rf"modules\.json names the module '{kind}'")
    for kind in ("Router", "Asym", "SpladePooling", "MLMTransformer", "SparseAutoEncoder", "LogitScore"):
        other = {"type": f"sentence_transformers.sparse_encoder.models.{kind}", "path": ""}
        (folder / "modules.json").write_text(json.dumps([*listed, other]))
        refused(folder, rf"modules\.json names the module '{kind}'")
    (folder / "modules.json").write_text(json.dumps([listed[0], listed[0], *listed[1:]]))
    refused(folder, "has 2 networks")
    (folder / "modules.json").write_text(json.dumps([*listed, listed[1]]))
    refused(folder, "several Pooling modules")
    (folder / "modules.json").write_text(json.dumps([listed[0], listed[2], listed[1]]))
    refused(folder, "Dense before the Pooling")
    (folder / "modules.json").write_text(json.dumps([listed[0], listed[4], *listed[1:4]]))
    equal(folder)  # Normalising what is not there yet does nothing.


@row("modules.json StaticEmbedding")
def _static(folder: Path) -> None:
    words = Tokenizer(models.WordPiece({"[UNK]": 0, "the": 1, "cat": 2, "fox": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    vectors = np.random.default_rng(0).standard_normal((4, 12)).astype(np.float32)
    parts = [st.StaticEmbedding(words, embedding_weights=vectors)]
    prompts = {"query": "the cat ", "document": "fox "}
    table = folder.parent / "static"
    SentenceTransformer(modules=parts, prompts=prompts, similarity_fn_name="dot", truncate_dim=5).save(
        str(table)
    )
    reference, model = SentenceTransformer(str(table)), omnivec.load(table)
    texts = ["the cat", "a fox and the cat"]
    check_close(model.encode(texts), reference.encode(texts), "static")
    check_close(model.encode_query(texts), reference.encode_query(texts), "query")
    assert (model.dim, model.metric) == (5, "dot")
    before = model.identity
    change(table / "tokenizer_config.json", tokenizer_class="LlamaTokenizer", add_eos_token=True)
    assert omnivec.load(table).identity == before
    listed = json.loads((table / "modules.json").read_text())
    normal = {"path": "1_Normalize", "type": "sentence_transformers.models.Normalize"}
    (table / "modules.json").write_text(json.dumps([*listed, normal]))
    with pytest.raises(UnsupportedModel, match="truncate_dim 5 after a Normalize"):
        omnivec.load(table)


@row("modules.json modules of other code")
def _other_code(folder: Path) -> None:
    listed = json.loads((folder / "modules.json").read_text())
    listed[0]["type"] = "custom_st.Transformer"
    (folder / "modules.json").write_text(json.dumps(listed))
    refused(
        folder, r"names the module 'custom_st\.Transformer', whose code is not from sentence-transformers"
    )


@row("sentence_bert_config.json and its sisters: max_seq_length do_lower_case")
def _sisters(folder: Path) -> None:
    (folder / "sentence_bert_config.json").unlink()
    for i, name in enumerate(reversed(SENTENCE)):  # The one of BERT wins, then in this order.
        change(folder / name, max_seq_length=10 + i, do_lower_case=i % 2 == 0)
        model = read_model(folder)
        assert (model.texts.limit, model.texts.lower) == (10 + i, i % 2 == 0), name
    (folder / "sentence_bert_config.json").write_text("{}")
    equal(folder)
    # Special tokens in a text are not lower-cased, and lower case comes before all else.
    change(folder / "sentence_bert_config.json", max_seq_length=30, do_lower_case=True)
    texts = ["The [MASK] CAT sat", "[CLS] THE cat", "ΣΟΦΟΣ Straße", "É the CAT"]
    got = open_model(folder)
    check_close(got.encode(texts), SentenceTransformer(str(folder)).encode(texts), "do_lower_case")
    again = open_model(got.save(folder.parent / "saved"))
    assert again.identity == got.identity
    np.testing.assert_array_equal(again.encode(texts), got.encode(texts))


@row("sentence_bert_config.json other keys")
def _unknown_settings(folder: Path) -> None:
    file = folder / "sentence_bert_config.json"
    for key, value in (("query_prefix", "q: "), ("pooling", "cls"), ("layers", [1, 2]), ("scale", 2)):
        file.write_text(json.dumps({key: value}))
        refused(folder, rf"sentence_bert_config\.json: {key} .* is not covered")
    file.write_text("{}")
    same(folder, lambda: file.write_text(json.dumps({"query_prefix": "", "layers": None})))
    change(folder / "1_Pooling" / "config.json", layers=[0, 1])
    refused(folder, r"1_Pooling/config\.json: layers \[0, 1\] is not covered")


@row("sentence_bert_config.json tokenizer_args processor_kwargs config_args config_kwargs")
def _arguments(folder: Path) -> None:
    for tokenizer, config in (("tokenizer_args", "config_args"), ("processor_kwargs", "config_kwargs")):
        said: dict[str, dict[str, Any]] = {
            tokenizer: {"model_max_length": 11},
            config: {"layer_norm_eps": 1e-3},
        }
        (folder / "sentence_bert_config.json").write_text(json.dumps(said))
        assert read_model(folder).preparer.limit == 11
        assert read_model(folder).config.layer_norm_eps == 1e-3
        equal(folder)
    said["processor_kwargs"]["split_special_tokens"] = True
    (folder / "sentence_bert_config.json").write_text(json.dumps(said))
    model = open_model(folder)
    assert len(model.model.texts.tokenizer.ids(["[SEP]"])[0]) > 3
    saved = open_model(model.save(folder.parent / "saved"))
    assert saved.identity == model.identity


@row("sentence_bert_config.json model_args model_kwargs")
def _model_arguments(folder: Path) -> None:
    file = folder / "sentence_bert_config.json"
    same(folder, lambda: change(file, model_args={"torch_dtype": "float16", "attn_implementation": "eager"}))
    change(file, model_args={"num_hidden_layers": 1})
    refused(folder, r"sentence_bert_config\.json: model_args num_hidden_layers 1 is not covered")


@row(
    "sentence_bert_config.json transformer_task modality_config processing_kwargs query_length document_length "
    "query_expansion tokenizer_name_or_path"
)
def _tasks(folder: Path) -> None:
    file = folder / "sentence_bert_config.json"
    before = file.read_text()
    way = {"method": "forward", "method_output_name": "pooler_output"}
    others = {"transformer_task": "fill-mask", "modality_config": {"text": way}, "query_length": 32}
    others |= {
        "processing_kwargs": {"text": {"max_length": 4}},
        "document_length": 9,
        "query_expansion": {"length": 3},
    }
    for key, value in others.items():
        file.write_text(before)
        change(file, **{key: value})
        refused(folder, rf"sentence_bert_config\.json: {key}")
    file.write_text(before)
    change(file, modality_config={"text": {"method": "forward", "method_output_name": ["hidden_states", 1]}})
    refused(folder, r"modality_config uses \['hidden_states', 1\] of 'forward'")


@row("sentence_bert_config.json unpad_inputs")
def _unpad(folder: Path) -> None:
    same(folder, lambda: change(folder / "sentence_bert_config.json", unpad_inputs=False))


@row("config_sentence_transformers.json prompts default_prompt_name")
def _prompts(folder: Path) -> None:
    card = folder / "config_sentence_transformers.json"
    change(card, prompts={"query": "the question: ", "x": "a fox: "}, default_prompt_name="x")
    equal(folder)
    reference = SentenceTransformer(str(folder))
    check_close(open_model(folder).encode_query(FULL), reference.encode_query(FULL), "query")


@row("config_sentence_transformers.json similarity_fn_name")
def _similarity(folder: Path) -> None:
    change(folder / "config_sentence_transformers.json", similarity_fn_name="dot")
    assert read_model(folder).metric == "dot"
    change(folder / "config_sentence_transformers.json", similarity_fn_name="manhattan")
    equal(folder)


@row("config_sentence_transformers.json truncate_dim")
def _truncated(folder: Path) -> None:
    change(folder / "config_sentence_transformers.json", truncate_dim=7)
    equal(folder)
    model = open_model(folder)
    assert model.dim == 7
    assert not model.encoder.card.normalizes
    again = open_model(model.save(folder.parent / "saved"))
    assert again.identity == model.identity


@row("config_sentence_transformers.json model_type")
def _kinds(folder: Path) -> None:
    card = folder / "config_sentence_transformers.json"
    same(folder, lambda: change(card, __version__={"sentence_transformers": "2.0.0"}))
    for kind in ("SparseEncoder", "CrossEncoder", "MultiVectorEncoder"):
        change(card, model_type=kind)
        refused(folder, rf"config_sentence_transformers\.json: model_type '{kind}'")


@row("1_Pooling/config.json pooling_mode and the older pooling_mode_...")
def _pooling(folder: Path) -> None:
    shutil.rmtree(folder / "2_Dense")
    listed = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps(listed[:2]))
    file = folder / "1_Pooling" / "config.json"
    file.write_text(json.dumps({"embedding_dimension": 32, "pooling_mode": ["max", "cls"]}))
    equal(folder)
    older = {
        "pooling_mode_cls_token": True,
        "pooling_mode_weightedmean_tokens": True,
        "word_embedding_dimension": 32,
    }
    file.write_text(json.dumps(older))
    equal(folder)
    file.write_text(json.dumps({"embedding_dimension": 32, "pooling_mode": "median"}))
    refused(folder, "pooling mode 'median' is none of cls, max")
    file.write_text(json.dumps(older | {"pooling_mode_median_tokens": True}))
    refused(folder, "pooling mode 'pooling_mode_median_tokens' is none of")


@row("modules.json the Pooling before the Transformer, or alone")
def _misplaced(folder: Path) -> None:
    network, pooling, *_ = json.loads((folder / "modules.json").read_text())
    for listed in ([pooling, network], [pooling]):
        (folder / "modules.json").write_text(json.dumps(listed))
        refused(folder, r"modules\.json has no Transformer before its Pooling")


@row("1_Pooling/config.json include_prompt")
def _include(folder: Path) -> None:
    change(folder / "1_Pooling" / "config.json", include_prompt=False)
    change(folder / "config_sentence_transformers.json", prompts={"query": "the question: "})
    reference = SentenceTransformer(str(folder))
    check_close(open_model(folder).encode_query(FULL), reference.encode_query(FULL), "query")


@row("1_Pooling/config.json word_embedding_dimension embedding_dimension")
def _width(folder: Path) -> None:
    same(folder, lambda: change(folder / "1_Pooling" / "config.json", word_embedding_dimension=768))


@row("2_Dense/config.json activation_function in_features out_features use_residual bias")
def _dense(folder: Path) -> None:
    file = folder / "2_Dense" / "config.json"
    for name in (
        "linear.Identity",
        "activation.ReLU",
        "activation.GELU",
        "activation.SiLU",
        "activation.Sigmoid",
    ):
        change(file, activation_function=f"torch.nn.modules.{name}")
        equal(folder)
    said = json.loads(file.read_text())
    del said["activation_function"]
    file.write_text(json.dumps(said))
    equal(folder)
    for name in ("torch.nn.modules.activation.Mish", "own.GELU", "GELU"):
        change(file, activation_function=name)
        refused(folder, f"2_Dense/config.json: activation '{re.escape(name)}' is none of")
    for name in ("torch.own.Tanh", "torch.nn.modules.own.Tanh"):
        change(file, activation_function=name)
        refused(folder, "is none of")
    change(file, activation_function="torch.nn.modules.linear.Identity", bias=False)
    refused(folder, "has bias false, but the weights have one")
    change(file, bias=True, in_features=31)
    with pytest.raises(ModelError, match=r"in_features is 31, but linear\.weight of the weights is"):
        read_models(folder)
    change(file, in_features=32)
    weights = load_file(folder / "2_Dense" / "model.safetensors")
    del weights["linear.bias"]
    save_file(weights, folder / "2_Dense" / "model.safetensors")
    refused(folder, "has bias true, but the weights have none")


@row("2_Dense/config.json module_input_name module_output_name")
def _inputs(folder: Path) -> None:
    for part, kind in (("4_Normalize", "Normalize"), ("2_Dense", "Dense")):
        for key in ("module_input_name", "module_output_name"):
            before = (folder / part / "config.json").read_text()
            change(folder / part / "config.json", **{key: "token_embeddings"})
            refused(folder, f"{part}/config.json: a {kind} with {key} 'token_embeddings'")
            (folder / part / "config.json").write_text(before)


@row("3_Dropout/config.json")
def _dropout(folder: Path) -> None:
    same(folder, lambda: change(folder / "3_Dropout" / "config.json", dropout=0.9))


def clip(folder: Path) -> None:
    """A CLIP in a folder, whose vocabulary is written by hand."""
    folder.mkdir(parents=True)
    alphabet = folders.byte_alphabet()
    merges = [("t", "h"), ("th", "e</w>"), ("c", "a"), ("ca", "t</w>")]
    pieces = [*alphabet, *(letter + "</w>" for letter in alphabet), *map("".join, merges)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text(
        "#version: 0.2\n" + "\n".join(map(" ".join, merges)) + "\n", encoding="utf-8"
    )
    change(folder / "tokenizer_config.json", tokenizer_class="CLIPTokenizer", model_max_length=24)
    end = len(pieces) - 1
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    ends = {"bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end}
    config = CLIPConfig(
        text_config={**sizes, **ends, "vocab_size": end + 1, "max_position_embeddings": 24},
        vision_config={**sizes, "image_size": 32, "patch_size": 16},
        projection_dim=20,
    )
    checkpoints.discriminate(CLIPModel(config), 2).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size).save_pretrained(folder)


@row("preprocessor_config.json processor_config.json")
def _images(folder: Path) -> None:
    for path, kind in (("0_CLIPModel", "CLIPModel"), ("", "Transformer")):
        place = folder.parent / (kind if path else f"{kind} of 6")
        clip(place / path)
        listed = [{"idx": 0, "name": "0", "path": path, "type": f"sentence_transformers.models.{kind}"}]
        (place / "modules.json").write_text(json.dumps(listed))
        way = {"method": "get_text_features", "method_output_name": "pooler_output"}
        if not path:  # As sentence-transformers 6 saves it.
            ways = {"text": way, "image": {**way, "method": "get_image_features"}}
            change(
                place / "sentence_bert_config.json",
                modality_config=ways,
                module_output_name="sentence_embedding",
            )
        reference, model = SentenceTransformer(str(place)), omnivec.load(place)
        pictures = [photographs.rgb(name) for name in ("coffee", "astronaut")]
        for items in (["the cat", "a dog"], pictures):
            expected = reference.encode(items, normalize_embeddings=True)
            check_close(model.encode(items), expected, kind)
        saved = omnivec.load(model.save(place / "saved"))
        assert saved.identity == model.identity
        more = {"path": "1", "type": "sentence_transformers.models.Dense"}
        (place / "modules.json").write_text(json.dumps([*listed, more]))
        refused(place, r"modules\.json names the module 'Dense' in a model of texts and images")


@row("video_preprocessor_config.json")
def _video(folder: Path) -> None:
    same(folder, lambda: change(folder / "video_preprocessor_config.json", size={"height": 3}))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ROWS)
def test_a_row_of_the_table(folder: Path, name: str) -> None:
    ROWS[name](folder)
