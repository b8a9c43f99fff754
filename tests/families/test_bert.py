"""BERT and RoBERTa against transformers, every hidden state, both engines; wrong formulas are told apart."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

import checkpoints
from omnivec import weights
from omnivec.errors import ItemErrors, UnsupportedModel, WeightsError
from omnivec.families import bert
from omnivec.inputs.text.text import INPUTS
from omnivec.models.model import known_keys, read_model
from omnivec.models.network import Choice, Network
from omnivec.ops import openvino
from omnivec.ops import torch as torch_ops
from omnivec.ops.base import EngineSettings
from omnivec.testing import TEXTS, check_close, check_family, check_rejected, open_model
from omnivec.weights import same_weights

MAKERS = {"bert": checkpoints.bert, "roberta": checkpoints.roberta}
ENGINES: dict[str, Callable[..., Any]] = {
    "openvino": openvino.compile_program,
    "torch": torch_ops.compile_program,
}


@pytest.fixture(scope="module", params=MAKERS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp(request.param)
    return folder, MAKERS[request.param](folder)


def batch_of(ids: np.ndarray, lengths: list[int], pad: int) -> dict[str, np.ndarray]:
    mask = (np.arange(ids.shape[1]) < np.array(lengths)[:, None]).astype(np.int32)
    return {"ids": np.where(mask == 1, ids, pad).astype(np.int32), "mask": mask}


def reference_states(model: Any, batch: dict[str, np.ndarray]) -> list[np.ndarray]:
    with torch.no_grad():
        out = model(
            input_ids=torch.from_numpy(batch["ids"]).long(),
            attention_mask=torch.from_numpy(batch["mask"]).long(),
            output_hidden_states=True,
        )
    return [state.numpy() for state in out.hidden_states]


def states(
    folder: Path, engine: str, batch: dict[str, np.ndarray], forward: Callable[..., Any] | None = None
) -> list[np.ndarray]:
    model = read_model(folder)
    if forward is not None:
        family: Any = SimpleNamespace(forward=forward)
        model = dataclasses.replace(model, family=family)
    executable = ENGINES[engine](model.hidden, INPUTS, model.tensors, EngineSettings())
    found = executable.run(batch)
    return [found[str(i)] for i in range(len(found))]


def inside(state: np.ndarray, batch: dict[str, np.ndarray]) -> np.ndarray:
    return state[batch["mask"] == 1]


@settings(max_examples=12, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    padding=st.integers(0, 9),
    seed=st.integers(0, 99),
)
@pytest.mark.parametrize("engine", ENGINES)
def test_every_hidden_state_equals_transformers(
    made: tuple[Path, Any], engine: str, lengths: list[int], padding: int, seed: int
) -> None:
    folder, model = made
    rng = np.random.default_rng(seed)
    pad = model.config.pad_token_id
    ids = rng.integers(5, model.config.vocab_size, (len(lengths), max(lengths) + padding))
    batch = batch_of(ids, lengths, pad)
    expected = reference_states(model, batch)
    got = states(folder, engine, batch)
    assert len(got) == len(expected) == model.config.num_hidden_layers + 1
    for i, (a, b) in enumerate(zip(got, expected, strict=True)):
        check_close(inside(a, batch), inside(b, batch), f"{engine}, hidden state {i}")


def test_padding_inside_a_text_counts_as_transformers_counts(tmp_path: Path) -> None:
    model = checkpoints.roberta(tmp_path)
    ids = np.array(
        [[0, 9, 1, 8, 7, 2, 1, 1]]
    )  # 1 is RoBERTa's padding: once as a token of the text, twice as padding
    batch = {"ids": ids.astype(np.int32), "mask": (np.arange(8) < 6).astype(np.int32)[None]}
    check_close(
        inside(states(tmp_path, "openvino", batch)[-1], batch),
        inside(reference_states(model, batch)[-1], batch),
        "last",
    )


def wrong_variants(model_type: str) -> dict[str, Callable[..., Any]]:
    """Forwards with one mistake each, as they are made in practice."""

    def changed(**changes: Any) -> Callable[..., Any]:
        return lambda ops, p, config, batch: bert.forward(
            ops, p, dataclasses.replace(config, **changes), batch
        )

    def with_ops(name: str, wrong: Callable[..., Any]) -> Callable[..., Any]:
        def forward(ops: Any, p: Any, config: Any, batch: Any) -> Any:
            right = getattr(ops, name)
            setattr(ops, name, lambda *args: wrong(right, *args))
            return bert.forward(ops, p, config, batch)

        return forward

    def shifted(ops: Any, p: Any, config: Any, batch: Any) -> Any:
        plain = dataclasses.replace(
            config, model_type="roberta" if config.model_type == "bert" else "bert", pad_token_id=1
        )
        return bert.forward(ops, p, plain, batch)

    return {
        "tanh for erf GELU": changed(hidden_act="gelu_new"),
        "epsilon of 1e-3": changed(layer_norm_eps=1e-3),
        "half the heads": changed(num_attention_heads=2),
        "scale left out": with_ops(
            "attention", lambda right, q, k, v, bias, scale, *rest: right(q, k, v, bias, 1.0, *rest)
        ),
        "mask ignored": with_ops(
            "attention", lambda right, q, k, v, bias, *rest: right(q, k, v, None, *rest)
        ),
        "positions of the other kind": shifted,
        "a layer left out": changed(num_hidden_layers=2),
    }


@pytest.mark.parametrize("variant", wrong_variants("bert"))
def test_wrong_variants_are_told_apart(made: tuple[Path, Any], variant: str) -> None:
    folder, model = made
    rng = np.random.default_rng(0)
    batch = batch_of(rng.integers(5, model.config.vocab_size, (3, 24)), [24, 9, 1], model.config.pad_token_id)
    expected = reference_states(model, batch)[-1]
    got = states(folder, "openvino", batch, wrong_variants(model.config.model_type)[variant])[-1]
    check_rejected(inside(got, batch), inside(expected, batch), variant)


def test_contract(made: tuple[Path, Any]) -> None:
    check_family(made[0])


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu", "silu"])
def test_activations(tmp_path: Path, activation: str) -> None:
    model = checkpoints.bert(tmp_path, hidden_act=activation)
    batch = batch_of(np.random.default_rng(1).integers(5, 60, (2, 12)), [12, 7], 0)
    for engine in ENGINES:
        got = states(tmp_path, engine, batch)[-1]
        check_close(inside(got, batch), inside(reference_states(model, batch)[-1], batch), activation)


@pytest.mark.parametrize("made_as", ["bert", "roberta"])
def test_text_to_vector_equals_transformers(tmp_path: Path, made_as: str) -> None:
    model = MAKERS[made_as](tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    embedder = open_model(tmp_path)
    with torch.no_grad():
        batch = tokenizer(
            list(TEXTS), padding=True, truncation=True, max_length=embedder.max_length, return_tensors="pt"
        )
        hidden = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        mask = batch["attention_mask"][:, :, None].float()
        expected = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
    check_close(embedder.encode(list(TEXTS)), expected, "mean over tokens")
    assert embedder.card["pooling_stated"] is False


def test_lengths_are_the_models(tmp_path: Path) -> None:
    checkpoints.bert(tmp_path / "b")
    checkpoints.roberta(tmp_path / "r")
    assert open_model(tmp_path / "b").max_length == 96
    assert open_model(tmp_path / "r").max_length == 96  # 98 places, of which two stand before the first


def test_what_is_cut_is_counted(tmp_path: Path) -> None:
    checkpoints.bert(tmp_path)
    encoded = open_model(tmp_path).run(["one", "one " * 200])
    assert encoded.seen[1] == 94
    assert encoded.lost[1] >= 200 - 94
    assert encoded.lost[0] == 0


def test_refused_variants(tmp_path: Path) -> None:
    for change in ({"position_embedding_type": "relative_key"}, {"is_decoder": True}, {"hidden_act": "mish"}):
        with pytest.raises(UnsupportedModel):
            known_keys(bert, change, Path("folder"))


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    checkpoints.bert(tmp_path, layers=2)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    with pytest.raises(WeightsError, match=r"encoder\.layer\.2"):
        open_model(tmp_path).encode("x")


def test_ids_beyond_the_table_are_refused(tmp_path: Path) -> None:
    checkpoints.bert(tmp_path)
    config, file = tmp_path / "config.json", tmp_path / "model.safetensors"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"vocab_size": 7}))
    tensors = {name: tensor.data for name, tensor in weights.read(file).items()}
    table = "embeddings.word_embeddings.weight"
    weights.save(
        file, {name: np.array(data[:7] if name == table else data) for name, data in tensors.items()}
    )
    with pytest.raises(ItemErrors, match="beyond the 7 rows of the model's embeddings"):
        open_model(tmp_path).encode("the quick brown fox")


def test_bfloat16_stays_near(made: tuple[Path, Any]) -> None:
    exact, half = open_model(made[0]), open_model(made[0], precision="bfloat16")
    a, b = exact.encode(list(TEXTS)), half.encode(list(TEXTS))
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosine.min() > 0.999


def test_residual_stream_stays_float32_in_bfloat16(tmp_path: Path) -> None:
    checkpoints.bert(tmp_path)
    compiled = Network.of(read_model(tmp_path), Choice(precision="bfloat16"), tmp_path / "trials.json")
    if not openvino.cpu_can_bfloat16():
        pytest.skip("this CPU has no bfloat16")
    nodes = compiled._body._compiled.get_runtime_model().get_ops()  # type: ignore[attr-defined]
    kinds = [
        (node.get_rt_info()["layerType"].astype(str), node.get_rt_info()["runtimePrecision"].astype(str))
        for node in nodes
    ]
    assert {precision for kind, precision in kinds if kind == "MVN"} == {"f32"}
    assert "bf16" in {precision for kind, precision in kinds if kind == "FullyConnected"}


def test_published_forms_of_the_same_weights(tmp_path: Path) -> None:
    """A head's checkpoint, a sentence encoder's names, a torch file, shards and bfloat16: the same vectors."""
    from transformers import BertForMaskedLM

    model = checkpoints.bert(tmp_path / "plain")
    expected = open_model(tmp_path / "plain").encode(list(TEXTS))

    def copy(name: str) -> Path:
        folder = tmp_path / name
        shutil.copytree(tmp_path / "plain", folder)
        (folder / "model.safetensors").unlink()
        return folder

    whole = BertForMaskedLM(model.config)
    whole.bert.load_state_dict(model.state_dict(), strict=False)
    whole.save_pretrained(copy("with_head"))
    torch.save(model.state_dict(), copy("torch_file") / "pytorch_model.bin")
    torch.save(
        model.state_dict(), copy("old_torch_file") / "pytorch_model.bin", _use_new_zipfile_serialization=False
    )
    renamed = {f"0.auto_model.{name}": value for name, value in model.state_dict().items()}
    torch.save(renamed, copy("sentence_encoder") / "pytorch_model.bin")
    model.save_pretrained(copy("shards"), max_shard_size="60KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    for name in ("with_head", "torch_file", "old_torch_file", "sentence_encoder", "shards"):
        check_close(open_model(tmp_path / name).encode(list(TEXTS)), expected, name)
        assert same_weights(read_model(tmp_path / name).hashes, read_model(tmp_path / "plain").hashes), name

    half = copy("bfloat16")
    checkpoints.bert(tmp_path / "again").bfloat16().save_pretrained(half)
    check_close(open_model(half).encode(list(TEXTS)), expected, "bfloat16 weights", 0.05)
    assert same_weights(read_model(half).hashes, read_model(tmp_path / "plain").hashes)
