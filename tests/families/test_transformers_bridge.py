"""Models of no family, run through transformers: against transformers itself, on both engines."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import causal
import checkpoints
import encoders
from omnivec.errors import MissingExtra, UnsupportedModel, WeightsError
from omnivec.families import _bridge
from omnivec.families import transformers as family
from omnivec.models.model import read_model
from omnivec.models.network import Choice, Network
from omnivec.testing import TEXTS, check_close, check_family, check_rejected, open_model
from omnivec.training.trainable import Trainable
from omnivec.weights import same_weights

FULL = [text for text in TEXTS if text]
LIKE = encoders.BERT_LIKE
DEBERTA = LIKE | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16}
DEBERTA |= {"norm_rel_ebd": "layer_norm", "share_att_key": True, "position_biased_input": False}
XLNET = {"d_model": 64, "n_layer": 3, "n_head": 4, "d_inner": 96}
BLOOM = {"hidden_size": 64, "n_layer": 3, "n_head": 4}
OPT = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "ffn_dim": 96}
OPT |= {"word_embed_proj_dim": 32, "max_position_embeddings": 96, "do_layer_norm_before": False}
BART = {"d_model": 64, "encoder_layers": 3, "decoder_layers": 2, "encoder_attention_heads": 4}
BART |= {"decoder_attention_heads": 4, "encoder_ffn_dim": 96, "decoder_ffn_dim": 96}
NARROW = {"embedding_size": 32, "intra_bottleneck_size": 32, "num_feedforward_networks": 2}
FUNNEL = {"d_model": 64, "n_head": 4, "d_head": 16, "d_inner": 96, "block_sizes": [2, 2]}
WINDOW = {"attention_window": 8, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}


@dataclasses.dataclass(frozen=True)
class Kind:
    """A model that no family covers: its settings, its tokenizer, and what its tokenizer gives beside ids and mask."""

    model_type: str
    settings: dict[str, Any]
    tokenizer: Callable[[Path], int] = checkpoints.wordpiece
    marked: str = ""

    def make(self, folder: Path, seed: int = 0, **changes: Any) -> Any:
        """A checkpoint with its tokenizer in `folder`, and transformers' model of it."""
        folder.mkdir(parents=True, exist_ok=True)
        settings = {"vocab_size": self.tokenizer(folder), **self.settings, "use_cache": False}
        settings |= {"architectures": [], **changes}
        config = transformers.AutoConfig.for_model(self.model_type, **settings)
        model = discriminate(transformers.AutoModel.from_config(config), seed)
        model.save_pretrained(folder)
        return model

    def states(self, model: Any, ids: np.ndarray, mask: np.ndarray) -> list[np.ndarray]:
        """transformers' own hidden states."""
        network = model.get_encoder() if model.config.is_encoder_decoder else model
        given = {
            "input_ids": torch.from_numpy(ids).long(),
            "attention_mask": torch.from_numpy(mask).long(),
        }
        if self.model_type == "fnet":
            del given["attention_mask"]
        if self.marked:  # The tokenizer puts one of its own tokens into a segment of its own.
            place = mask.sum(1)[:, None] - 1 if self.marked == "last" else 0
            given["token_type_ids"] = torch.from_numpy(2 * (np.arange(mask.shape[1]) == place) * mask).long()
        with torch.no_grad():
            found = network(**given, output_hidden_states=True)
        check_close(found.hidden_states[-1].numpy(), found.last_hidden_state.numpy(), "the last state", 0.0)
        return [state.numpy() for state in found.hidden_states]


def discriminate(model: torch.nn.Module, seed: int) -> Any:
    """Matrices with a standard deviation of 1 / sqrt(fan-in), random norms and biases."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            is_norm = "norm" in name.lower() and name.endswith("weight")
            scale = 0.3 if p.ndim == 1 else 1.0 if "emb" in name else p[0].numel() ** -0.5
            p.copy_(float(is_norm and p.ndim == 1) + scale * noise)
    return model.eval()


def xlnet_tokenizer(folder: Path) -> int:
    names = ["<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>"]
    roles = {"unk": "<unk>", "cls": "<cls>", "sep": "<sep>", "pad": "<pad>"}
    return encoders.unigram(folder, "PreTrainedTokenizerFast", names, "$A <sep> <cls>", **roles)


def decoder_tokenizer(folder: Path) -> int:
    return causal.byte_level(folder, "PreTrainedTokenizerFast", "$A <|end|>")


KINDS = {
    "deberta-v2": Kind("deberta-v2", DEBERTA),
    "roformer": Kind("roformer", LIKE | {"embedding_size": 64}),
    "squeezebert": Kind("squeezebert", LIKE | {"embedding_size": 64}),
    "xlnet": Kind("xlnet", XLNET, xlnet_tokenizer, marked="last"),
    "bart": Kind("bart", BART | {"max_position_embeddings": 98, "pad_token_id": 0}),
    "bloom": Kind("bloom", BLOOM, decoder_tokenizer),
    "opt": Kind("opt", OPT | {"pad_token_id": 1}, decoder_tokenizer),
    "gpt_neox": Kind("gpt_neox", LIKE | {"rotary_pct": 0.25}, decoder_tokenizer),
}
ONLY_TORCH = {
    "convbert": (Kind("convbert", LIKE | {"embedding_size": 64, "head_ratio": 2}), "padding changes"),
    "mobilebert": (Kind("mobilebert", LIKE | NARROW), "padding changes"),
    "fnet": (Kind("fnet", LIKE), "padding changes"),
    "funnel": (Kind("funnel", FUNNEL, marked="first"), "padding changes"),
    "longformer": (Kind("longformer", LIKE | WINDOW), "differs from itself by"),
}
CAUSAL = ("bloom", "opt", "gpt_neox")


@pytest.fixture(scope="module", params=KINDS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Kind, Path, Any]:
    folder = tmp_path_factory.mktemp("bridge") / request.param
    return KINDS[request.param], folder, KINDS[request.param].make(folder)


def batch_of(vocabulary: int, lengths: list[int], padding: int, pad: int, seed: int = 0) -> encoders.Batch:
    ids = np.random.default_rng(seed).integers(6, vocabulary, (len(lengths), max(lengths) + padding))
    mask = (np.arange(ids.shape[1]) < np.array(lengths)[:, None]).astype(np.int32)
    return {"ids": np.where(mask == 1, ids, pad).astype(np.int32), "mask": mask}


@pytest.mark.parametrize("engine", encoders.ENGINES)
@pytest.mark.parametrize(("lengths", "padding"), [([1], 0), ([40, 3, 17], 0), ([9, 8], 7), ([96], 0)])
def test_every_hidden_state_equals_transformers(
    made: tuple[Kind, Path, Any], engine: str, lengths: list[int], padding: int
) -> None:
    kind, folder, model = made
    batch = batch_of(read_model(folder).config.vocab_size, lengths, padding, model.config.pad_token_id or 0)
    expected = kind.states(model, batch["ids"], batch["mask"])
    found = encoders.states(folder, engine, batch)
    assert len(found) == len(expected) == 4
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        check_close(a, b[batch["mask"] == 1], f"{engine}, hidden state {i}")


@pytest.mark.parametrize("engine", encoders.ENGINES)
def test_vectors_equal_transformers_on_texts_by_themselves(made: tuple[Kind, Path, Any], engine: str) -> None:
    kind, folder, model = made
    embedder = open_model(folder, engine)
    is_causal = kind.model_type in CAUSAL
    assert embedder.card["family"] == "transformers" and not embedder.card["pooling_stated"]
    assert embedder.card["pooling"] == ["lasttoken" if is_causal else "mean"]
    expected = []
    for text in FULL:
        prepared: Any = embedder.model.texts.prepare([text])
        ids = prepared[0][0].arrays["ids"][None]
        last = kind.states(model, ids, np.ones_like(ids))[-1][0]
        expected.append(last[-1] if is_causal else last.mean(0))
    check_close(embedder.encode(FULL), np.stack(expected), engine)
    check_close(embedder.tokens(FULL[0], layer=-1).vectors, embedder.tokens(FULL[0], layer=3).vectors, "last")


@pytest.mark.parametrize("made", ["deberta-v2", "bart", "gpt_neox"], indirect=True)
def test_contract(made: tuple[Kind, Path, Any]) -> None:
    check_family(made[1], FULL)


@pytest.mark.parametrize("made", ["deberta-v2", "roformer", "opt"], indirect=True)
def test_bfloat16_stays_near(made: tuple[Kind, Path, Any]) -> None:
    assert encoders.bfloat16_cosine(made[1], "openvino", FULL).min() > 0.99


def test_wrong_variants_are_told_apart(tmp_path: Path) -> None:
    model = KINDS["deberta-v2"].make(tmp_path)
    batch = batch_of(model.config.vocab_size, [24, 9, 2], 0, 0)
    right = encoders.states(tmp_path, "torch", batch)[-1]
    config = json.loads((tmp_path / "config.json").read_text())
    wrong: dict[str, dict[str, Any]] = {
        "tanh for erf GELU": {"hidden_act": "gelu_new"},
        "epsilon of 1e-3": {"layer_norm_eps": 1e-3},
        "half the heads": {"num_attention_heads": 2},
        "one direction of positions": {"pos_att_type": ["c2p"]},
        "other buckets": {"position_buckets": 8, "max_relative_positions": 32},
    }
    for name, change in wrong.items():
        folder = tmp_path / name
        shutil.copytree(tmp_path, folder, ignore=shutil.ignore_patterns("*[Gg]*E*U", *wrong))
        (folder / "config.json").write_text(json.dumps(config | change))
        if name == "other buckets":  # Fewer rows of the table of relative positions.
            weights = load_file(folder / "model.safetensors")
            weights["encoder.rel_embeddings.weight"] = weights["encoder.rel_embeddings.weight"][:16].clone()
            save_file(weights, folder / "model.safetensors")
        check_rejected(encoders.states(folder, "torch", batch)[-1], right, name)


@pytest.mark.parametrize("name", ONLY_TORCH)
def test_what_openvino_cannot_do_exactly_runs_under_torch(tmp_path: Path, name: str) -> None:
    kind, why = ONLY_TORCH[name]
    model = kind.make(tmp_path)
    embedder = Network.of(read_model(tmp_path), Choice(), tmp_path / "trials.json")
    assert embedder.runtime.engine == "torch"
    assert why in embedder.runtime.reasons["engine"]
    with pytest.raises(UnsupportedModel, match=f"engine='openvino': .*{why}.*; use engine='torch'"):
        open_model(tmp_path, "openvino")
    torch_only = open_model(tmp_path, "torch")
    expected = []
    for text in FULL:
        prepared: Any = torch_only.model.texts.prepare([text])
        ids = prepared[0][0].arrays["ids"][None]
        expected.append(kind.states(model, ids, np.ones_like(ids))[-1][0].mean(0))
    check_close(torch_only.encode(FULL), np.stack(expected), "a batch against texts by themselves")
    check_close(torch_only.encode(FULL, batch_size=1), np.stack(expected), "one by one")


def test_a_branch_on_data_is_not_converted_silently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    KINDS["roformer"].make(tmp_path)
    plain = _bridge.BridgedNetwork._run

    def branching(self: Any, ids: Any, mask: Any) -> list[Any]:
        states = plain(self, ids, mask)
        return [state * 2 for state in states] if int(mask.sum()) > 20 else states

    monkeypatch.setattr(_bridge.BridgedNetwork, "_run", branching)
    _bridge.network.cache_clear()
    compiled = Network.of(read_model(tmp_path), Choice(), tmp_path / "trials.json")
    _bridge.network.cache_clear()
    assert compiled.runtime.engine == "torch"
    assert "differs from itself by 5e-01, allowed 1e-04" in compiled.runtime.reasons["engine"]


def change(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def test_code_of_a_models_folder_is_never_run(tmp_path: Path) -> None:
    KINDS["roformer"].make(tmp_path)
    (tmp_path / "own.py").write_text("raise SystemExit('code of the folder was run')")
    expected = open_model(tmp_path).encode(FULL)
    change(tmp_path, auto_map={"AutoModel": "own.Model", "AutoConfig": "own.Config"})
    check_close(open_model(tmp_path).encode(FULL), expected, "transformers' own class", 0.0)
    change(tmp_path, model_type="owntype")
    with pytest.raises(
        UnsupportedModel, match=r"'owntype' is covered by no family.*\(auto_map\) is never run"
    ):
        read_model(tmp_path)


def test_what_transformers_does_not_know_either_is_refused(tmp_path: Path) -> None:
    KINDS["roformer"].make(tmp_path)
    change(tmp_path, model_type="nokind")
    with pytest.raises(
        UnsupportedModel, match=r"'nokind' is covered by no family, and transformers 5.* know it"
    ):
        read_model(tmp_path)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text('{"model_type": "segformer"}')
    with pytest.raises(UnsupportedModel, match="'segformer' takes pixel_values: only models of text"):
        read_model(tmp_path)
    ONLY_TORCH["funnel"][0].make(tmp_path / "funnel", architectures=["FunnelBaseModel"])
    with pytest.raises(
        UnsupportedModel, match=r"'funnel' gives \(1, 6, 64\) for 11 tokens, not a vector for each"
    ):
        read_model(tmp_path / "funnel")
    (tmp_path / "config.json").write_text(config)
    change(tmp_path, model_type="roformer", quantization_config={"quant_method": "awq"})
    with pytest.raises(UnsupportedModel, match="quantization_config"):
        read_model(tmp_path)


def test_a_missing_extra_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    KINDS["roformer"].make(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        MissingExtra, match=r"'roformer' is covered by no.*pip install 'omnivec\[transformers\]'"
    ):
        read_model(tmp_path)


def test_weights_are_never_left_to_chance(tmp_path: Path) -> None:
    KINDS["roformer"].make(tmp_path)
    file = tmp_path / "model.safetensors"
    whole = load_file(file)
    lacking = {name: value for name, value in whole.items() if "layer.1.attention.self" not in name}
    save_file(lacking, file)
    with pytest.raises(
        WeightsError, match=r"6 are missing \(encoder\.layer\.1\.attention\.self\.query\.weight, "
    ):
        read_model(tmp_path)
    save_file(whole | {"encoder.layer.3.output.dense.bias": torch.zeros(64)}, file)
    with pytest.raises(WeightsError, match=r"1 have no place \(encoder\.layer\.3\.output\.dense\.bias\)"):
        read_model(tmp_path)
    save_file(whole | {"encoder.layer.2.output.dense.bias": torch.zeros(65)}, file)
    with pytest.raises(
        WeightsError, match=r"1 have another shape \(encoder\.layer\.2\.output\.dense\.bias\)"
    ):
        read_model(tmp_path)


def test_published_forms_of_the_same_weights(tmp_path: Path) -> None:
    """A head's checkpoint with its prefix, a torch file, bfloat16: the same model."""
    model = KINDS["deberta-v2"].make(tmp_path / "plain")
    plain = read_model(tmp_path / "plain")
    expected = open_model(tmp_path / "plain", "torch").encode(FULL)

    def copy(name: str) -> Path:
        shutil.copytree(tmp_path / "plain", tmp_path / name)
        (tmp_path / name / "model.safetensors").unlink()
        return tmp_path / name

    headed = transformers.DebertaV2ForMaskedLM(model.config)
    headed.deberta.load_state_dict(model.state_dict())
    headed.save_pretrained(copy("headed"))
    torch.save(model.state_dict(), copy("torch_file") / "pytorch_model.bin")
    for name in ("headed", "torch_file"):
        assert same_weights(read_model(tmp_path / name).hashes, plain.hashes), name
        assert {**read_model(tmp_path / name).identity, "weights": 0} == {**plain.identity, "weights": 0}
        check_close(open_model(tmp_path / name, "torch").encode(FULL), expected, name, 1e-6)
    half = copy("half")
    model.bfloat16().save_pretrained(half)
    assert same_weights(read_model(half).hashes, plain.hashes)
    check_close(open_model(half, "torch").encode(FULL), expected, "bfloat16 weights", 0.1)


def test_of_an_encoder_and_a_decoder_only_the_encoder_is_needed(tmp_path: Path) -> None:
    model = KINDS["bart"].make(tmp_path / "whole")
    kept = set(read_model(tmp_path / "whole").tensors)
    assert kept and all(name.startswith("encoder.") for name in kept)
    saved = open_model(tmp_path / "whole").save(tmp_path / "saved")
    assert set(load_file(saved / "model.safetensors")) == kept
    whole = transformers.BartForConditionalGeneration(model.config)
    whole.model.load_state_dict(model.state_dict())
    shutil.copytree(tmp_path / "whole", tmp_path / "generating")
    whole.save_pretrained(tmp_path / "generating")
    assert same_weights(read_model(tmp_path / "generating").hashes, read_model(tmp_path / "whole").hashes)


def test_limits_are_the_networks(tmp_path: Path) -> None:
    for name, limit in (("bart", 98), ("opt", 96), ("bloom", family._USUAL)):
        KINDS[name].make(tmp_path / name)
        assert read_model(tmp_path / name).preparer.limit == limit
    ONLY_TORCH["longformer"][0].make(tmp_path / "longformer")
    assert read_model(tmp_path / "longformer").preparer.limit == 96  # two places stand before the first


def test_it_learns_with_its_own_dropout(tmp_path: Path) -> None:
    KINDS["roformer"].make(tmp_path)
    model = read_model(tmp_path)
    trainable = Trainable(model)
    first, second = (trainable.vectors(["one text"]).detach() for _ in range(2))
    assert not torch.equal(first, second)
    still = Trainable(model, dropout=0.0)
    out = still.vectors(["one text", "another"])
    check_close(out.detach().numpy(), open_model(tmp_path).encode(["one text", "another"]), "without dropout")
    out.square().sum().backward()
    table = still.weights["embeddings.word_embeddings.weight"]
    assert table.grad is not None and float(table.grad.abs().sum()) > 0
    with torch.no_grad():
        for value in still.weights.values():
            value.mul_(1.01)
    learned = still.trained()
    choices = [Choice(engine=engine, precision="float32") for engine in encoders.ENGINES]
    a, b = (Network.of(learned, choice, tmp_path / "t.json") for choice in choices)
    prepared: Any = model.preparer.prepare(["one text"])
    rows = [parts[0] for parts in prepared]
    check_close(a.compute(rows, True), b.compute(rows, True), "learned weights on both engines")
    check_rejected(a.compute(rows, True), open_model(tmp_path).encode(["one text"]), "the published weights")
