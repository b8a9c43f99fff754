"""What a family may define: a misspelt hook, an unknown one and a missing one are refused by name."""

from __future__ import annotations

import inspect
import json
import sys
from typing import Any

import pytest

from checkpoints import bert
from omnivec.errors import ModelError
from omnivec.families._hooks import NetworkHooks, TableHooks, TowerHooks, computed_hooks, hooks_of
from omnivec.models import registry
from omnivec.testing import check_close, open_model

NETWORK = '''"""Like BERT, under another name."""
from dataclasses import dataclass, replace
from omnivec.families import bert
from omnivec.families.bert import _layer as layer
from omnivec.ops.activations import ACTIVATIONS
CLAIMS = {"model_type": ["otherkind"], "modality": "text"}
Config, Published = bert.Config, bert.Published
class KeyEncoder:
    pass
_EPS = 1e-12
def forward(ops, p, config, batch):
    return bert.forward(ops, p, replace(config, model_type="bert"), batch)
POOLING = "cls"
PREFIXES, LAYOUTS = bert.PREFIXES, bert.LAYOUTS
'''
TOWERS = '''"""Like CLIP, under another name."""
from omnivec.families import clip
from omnivec.families.clip import Config, forward_image, forward_text, towers
CLAIMS = {"model_type": ["otherclip"], "modality": "text"}
'''
TABLE = '''"""A table, under another name."""
CLAIMS = {"model_type": ["othertable"], "modality": "text"}
def encoder(table):
    raise NotImplementedError
'''
SOURCES = {"network": NETWORK, "towers": TOWERS, "table": TABLE}


@pytest.fixture
def announced(tmp_path, monkeypatch):
    """Announces a family of another package by an entry point, as its source says, and returns its record."""

    def announce(source):
        (tmp_path / "hooked_family.py").write_text(source)
        info = tmp_path / "hooked-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hooked\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\nhooked = hooked_family\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "hooked_family", raising=False)
        registry.families.cache_clear()
        return registry.families()["hooked"]

    yield announce
    sys.modules.pop("hooked_family", None)
    registry.families.cache_clear()


@pytest.mark.parametrize(
    ("kind", "expected"), [("network", NetworkHooks), ("towers", TowerHooks), ("table", TableHooks)]
)
def test_what_is_spelt_right_is_taken_by_its_kind(announced, kind, expected):
    assert type(hooks_of(announced(SOURCES[kind]).load())) is expected


def test_what_a_family_leaves_out_has_its_default(announced):
    hooks = hooks_of(announced(NETWORK).load())
    assert isinstance(hooks, NetworkHooks)
    assert (hooks.POOLING, hooks.pooling(None), hooks.OWN_CODE, hooks.SHAPES) == ("cls", "cls", False, None)
    assert hooks.canonical({"a": 1}) == {"a": 1} and hooks.adapt_weights({}, 7) == ({}, 7)
    assert hooks.check_supported({}) is None and hooks.torch_only_reason({}, None) is None


FORMER = """
EXACT = "by a former name"
def refuse(published):
    raise RuntimeError("refuse")
def original(folder, published):
    return "original"
def fitted(tensors, config):
    return "fitted"
def obstacle(tensors, config):
    return "obstacle"
"""


def test_hooks_keep_working_under_their_former_names(announced):
    hooks: Any = computed_hooks(announced(NETWORK + FORMER).load())
    assert hooks.FLOAT32_REASON == "by a former name"
    with pytest.raises(RuntimeError, match="refuse"):
        hooks.check_supported({})
    assert hooks.load_original(None, {}) == "original"
    assert hooks.adapt_weights({}, None) == "fitted"
    assert hooks.torch_only_reason({}, None) == "obstacle"


def test_a_hook_of_towers_keeps_working_under_its_former_name(announced):
    added = "def tokenized(config, tokenizer):\n    return tokenizer\n"
    hooks: Any = computed_hooks(announced(TOWERS + added).load())
    assert type(hooks) is TowerHooks
    tokenizer: Any = object()
    assert hooks.with_tokenizer(1, tokenizer) is tokenizer


# What is added to a family, and what is said of it.
WRONG = {
    "a constant": (
        "network",
        'POOLNG = "max"',
        r"hooked_family\.py:15: POOLNG is not a hook .*mean POOLING\?$",
    ),
    "a constant with a type": ("network", "PREPROCESING: dict = {}", "mean PREPROCESSING"),
    "one of several": ("network", "OWN_COD, _X = True, 1", "mean OWN_CODE"),
    "behind a condition": ("network", "if True:\n    IN_OUTS = ()", "mean IN_OUT"),
    "a function": ("network", "def chek_supported(published): ...", "mean check_supported"),
    "a function by assignment": ("network", "cannonical = dict", "mean canonical"),
    "a class": ("network", "class Publishd: ...", "Publishd is not a hook"),
    "a helper": (
        "network",
        "def scaled(x): ...",
        "scaled is not a hook of a family of networks; a helper's name",
    ),
    "a helper's constant": ("network", "EPS = 1e-12", "a helper's name begins with an underscore"),
    "the hook of another kind": ("table", 'POOLING = "cls"', "POOLING is not a hook of a family of tables"),
    "a former name of another kind's": (
        "table",
        "def tokenized(x): ...",
        "tokenized is not a hook of a family of tables",
    ),
    "of towers": ("towers", "def with_tokeniser(config, tokenizer): ...", "mean with_tokenizer"),
    "of a tower": ("towers", "def forward_vidio(): ...", "mean forward_video"),
    "of a table": ("table", "def encodr(table): ...", "encodr is not a hook of a family of tables"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_name_that_is_no_hook_is_refused(announced, case):
    kind, added, message = WRONG[case]
    with pytest.raises(ModelError, match=message):
        announced(f"{SOURCES[kind]}{added}\n").load()


MISSING = {
    "CLAIMS": ("table", "CLAIMS", "_CLAIMS"),
    "Config": ("network", "Config, Published", "_config, Published"),
    "forward": ("network", "def forward", "def _forward"),
    "towers": ("towers", ", towers", ", canonical"),
    "forward_text or forward_image": ("towers", "forward_image, forward_text, ", ""),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_required_hook_that_is_missing_is_named(announced, name):
    kind, right, wrong = MISSING[name]
    with pytest.raises(ModelError, match=rf"hooked_family\.py: {name} is missing"):
        announced(SOURCES[kind].replace(right, wrong)).load()


def test_a_table_whose_encoder_is_misspelt_is_told_so(announced):
    with pytest.raises(ModelError, match=r"encodr is not a hook .*; did you mean encoder\?"):
        announced(TABLE.replace("encoder", "encodr")).load()


def test_a_misspelt_hook_stops_the_model_from_loading(announced, tmp_path):
    bert(tmp_path / "model")
    expected = open_model(tmp_path / "model").encode(["one", "two words"])
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "model_type": "otherkind"}))
    announced(NETWORK.replace("POOLING", "POOLNG"))
    with pytest.raises(ModelError, match="POOLNG"):
        open_model(tmp_path / "model")
    (tmp_path / "hooked_family.py").write_text(NETWORK.replace('"cls"', '"mean"'))
    check_close(open_model(tmp_path / "model").encode(["one", "two words"]), expected, "spelt right")


def test_our_own_families_are_of_the_kind_that_they_say():
    kinds = {name: type(hooks_of(family.load())) for name, family in registry.families().items()}
    assert kinds["clip"] is TowerHooks
    assert {name for name, kind in kinds.items() if kind is TableHooks} == {
        "doc2vec",
        "fasttext",
        "keys",
        "static",
    }
    assert {kinds[name] for name in ("bert", "vit", "transformers")} == {NetworkHooks}


def test_a_family_is_checked_once(announced, monkeypatch):
    read = []
    right = inspect.getsource
    monkeypatch.setattr(inspect, "getsource", lambda module: read.append(module) or right(module))
    family = announced(NETWORK)
    assert family.load() is family.load()
    assert [module.__name__ for module in read] == ["hooked_family"]


def test_a_family_of_tables_computes_nothing(announced):
    with pytest.raises(ModelError, match="hooked_family is a family of tables"):
        computed_hooks(announced(TABLE).load())
