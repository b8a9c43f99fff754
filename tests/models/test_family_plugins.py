"""Families of other packages: mistakes are told in one line, and all other families go on working."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

import omnivec
from checkpoints import bert
from omnivec.errors import ModelError
from omnivec.models import registry
from omnivec.testing import check_family, open_model

FAMILY = '''"""Like BERT, under a name of its own."""
from dataclasses import replace
from omnivec.families import bert
CLAIMS = {"model_type": ["plugged"], "modality": "text"}
Config, Published = bert.Config, bert.Published
def forward(ops, p, config, batch):
    return bert.forward(ops, p, replace(config, model_type="bert"), batch)
PREFIXES, LAYOUTS = bert.PREFIXES, bert.LAYOUTS
'''

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path, monkeypatch) -> Iterator[Install]:
    """Installs a package with one family: its name, the entry point's value, and the source of the module."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def installed(name: str, value: str, source: str | None = None, package: str = "plugged") -> None:
        if source is not None:
            (tmp_path / f"{value.partition(':')[0]}.py").write_text(source)
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{name} = {value}\n")
        registry.families.cache_clear()

    yield installed
    registry.families.cache_clear()


def plugged(tmp_path, name="model"):
    """A folder of a model of the family."""
    bert(tmp_path / name)
    config = json.loads((tmp_path / name / "config.json").read_text())
    (tmp_path / name / "config.json").write_text(json.dumps({**config, "model_type": "plugged"}))
    return tmp_path / name


def test_it_is_called_as_its_entry_point_and_not_as_its_module(install, tmp_path):
    install("mine", "plugged_one", FAMILY)
    assert registry.families()["mine"].name == "mine"
    folder = plugged(tmp_path)
    assert omnivec.load(folder).card["family"] == "mine"
    check_family(folder, ["one text", "another, longer text"])


def test_collections_know_it_by_its_module_as_they_did_before(install, tmp_path):
    install("mine", "plugged_identity", FAMILY)
    assert open_model(plugged(tmp_path)).identity["family"] == "plugged_identity"


def test_an_entry_point_may_name_an_attribute(install, tmp_path):
    install("mine", "plugged_attribute:forward", FAMILY)
    assert omnivec.load(plugged(tmp_path)).card["family"] == "mine"


def test_literals_may_be_annotated(install):
    install("mine", "plugged_annotated", FAMILY.replace("CLAIMS =", "CLAIMS: dict[str, object] ="))
    assert registry.families()["mine"].claims["model_type"] == ["plugged"]


KNOWN = 'KNOWN = {"mine-small": {"sources": ["hf:a/b"]}}\n'


@pytest.mark.parametrize(
    ("name", "value", "source", "reason"),
    [
        ("mine", "nowhere", None, "there is no module nowhere"),
        ("mine", "nowhere.family", None, "there is no module nowhere.family"),
        ("mine", "plugged_syntax", FAMILY + "def (:\n", "SyntaxError: invalid syntax"),
        (
            "mine",
            "plugged_call",
            FAMILY.replace("{", "dict({").replace("}", "})"),
            "CLAIMS must be a literal",
        ),
        ("mine", "plugged_list", FAMILY.replace("CLAIMS = ", "CLAIMS = [1]#"), "CLAIMS must be a dict"),
        (
            "mine",
            "plugged_key",
            FAMILY.replace('"modality"', '"modalty"'),
            "CLAIMS has 'modalty', which is none",
        ),
        ("mine", "plugged_text", FAMILY.replace('["plugged"]', '"plugged"'), "must be a list of strings"),
        ("mine", "plugged_known", FAMILY + KNOWN, "KNOWN['mine-small'] has no 'sha256'"),
        ("bert", "plugged_bert", FAMILY, "omnivec has a family of this name"),
    ],
)
def test_one_that_cannot_be_read_is_left_out_with_one_line(
    install, capsys, tmp_path, name, value, source, reason
):
    install(name, value, source)
    families = registry.families()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and reason in lines[0] and repr(name) in lines[0]
    assert families["bert"].module == "omnivec.families.bert" and "mine" not in families
    bert(tmp_path / "other")
    assert omnivec.load(tmp_path / "other").card["family"] == "bert"


def test_one_without_claims_is_told(install, capsys):
    install("mine", "plugged_silent", FAMILY.replace("CLAIMS", "CLAMS"))
    assert registry.families()["mine"].claims == {}
    assert "plugged_silent has no CLAIMS" in capsys.readouterr().err


def test_of_two_packages_with_one_name_neither_is_taken(install, capsys):
    install("mine", "plugged_first", FAMILY)
    install("mine", "plugged_second", FAMILY, package="other")
    assert "mine" not in registry.families()
    assert "in the modules plugged_first and plugged_second: uninstall all but one" in capsys.readouterr().err


def test_a_known_model_of_omnivec_keeps_its_name(install):
    facts = dict.fromkeys(registry.KNOWN_KEYS, "")
    install(
        "mine", "plugged_taker", f"{FAMILY}KNOWN = {{'all-MiniLM-L6-v2': {facts}, 'mine-small': {facts}}}\n"
    )
    known = registry.known()
    assert known["all-MiniLM-L6-v2"]["family"] == "bert" and known["mine-small"]["family"] == "mine"


@pytest.mark.parametrize(
    ("module", "before", "after", "message"),
    [
        (
            "plugged_import",
            "CLAIMS",
            "import not_there\nCLAIMS",
            "cannot be imported .*No module named 'not_there'",
        ),
        ("plugged_plain", "bert.Config,", "type('Config', (), {}),", "Config is not a dataclass"),
        ("plugged_none", "return bert", "bert", "its forward function returned None"),
    ],
)
def test_a_mistake_in_its_module_is_an_error_of_its_models(install, tmp_path, module, before, after, message):
    install("mine", module, FAMILY.replace(before, after, 1))
    with pytest.raises(ModelError, match=message):
        open_model(plugged(tmp_path)).encode("one text")


def test_a_config_without_a_length_is_refused(install, tmp_path):
    source = FAMILY.replace("Config, Published = bert.Config,", "Published =").replace(
        "def forward",
        "import dataclasses\nConfig = dataclasses.make_dataclass('Config', ['dim'])\ndef forward",
    )
    install("mine", "plugged_short", source.replace("bert.Published", "bert.Published", 1))
    with pytest.raises(ModelError, match=r"plugged_short\.py: Config has no max_length"):
        open_model(plugged(tmp_path))
