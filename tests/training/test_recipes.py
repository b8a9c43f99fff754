"""Recipes are found by file name, described and held to their options without being imported."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from omnivec.cli.train import command
from omnivec.errors import UsageError
from omnivec.training.recipe_registry import read_recipe, recipes, train
from omnivec.training.recipes import contrastive


def test_what_is_read_is_what_the_record_says() -> None:
    recipe = recipes()["contrastive"]
    assert recipe.summary == (contrastive.__doc__ or "").partition("\n")[0]
    expected = [(f.name, f.type, f.default) for f in fields(contrastive.Options)]
    assert [(o.name, o.type, o.default) for o in recipe.options] == expected
    assert all(option.help for option in recipe.options)
    assert not {"data", "loop", "recipes", "trainable"} & recipes().keys()


RECIPE = '''"""First line.

More.
"""
@dataclass(frozen=True)
class Options:
    """Told.

    Attributes:
        width: components
            of a vector.
        names: of things.
        each: called.
    """

    width: int
    names: tuple[str, ...] | None = ("a", "b")
    each: Callable[[int | str], None] | None = None
'''


BASE = '''
class Base:
    """Shared.

    Attributes:
        dim: of a vector.
        lr: rate.
    """

    dim: int = 100
    lr: float = 0.5
'''
DERIVED = '''"""Derived."""
from omnivec.training.base import Base
DATA = "a text"
class Options(Base):
    """Told.

    Attributes:
        lr: another rate.
        own: more.
    """

    lr: float = 0.1
    own: bool = True
'''


def test_a_recipe_inherits_options_from_a_file_beside(tmp_path: Path) -> None:
    (tmp_path / "base.py").write_text(BASE)
    (tmp_path / "derived.py").write_text(DERIVED)
    recipe = read_recipe(tmp_path / "derived.py")
    assert recipe is not None and recipe.data == "a text" and read_recipe(tmp_path / "base.py") is None
    told = [(option.name, option.default, option.help) for option in recipe.options]
    assert told == [("dim", 100, "of a vector."), ("lr", 0.1, "another rate."), ("own", True, "more.")]


@pytest.mark.parametrize(
    "name", ["word2vec", "glove", "fasttext", "fasttext_supervised", "doc2vec", "phrases"]
)
def test_inherited_or_not_it_is_what_the_record_says(name: str) -> None:
    record = importlib.import_module(f"omnivec.training.recipes.{name}").Options
    recipe = recipes()[name]
    expected = [(f.name, f.type, f.default) for f in fields(record)]
    assert [(o.name, o.type, o.default) for o in recipe.options] == expected
    assert recipe.data and all(option.help for option in recipe.options)
    shown = CliRunner().invoke(command, [name, "--help"])
    assert shown.exit_code == 0 and f"DATA: {recipe.data}" in " ".join(shown.output.split())


def test_a_recipe_is_one_file(tmp_path: Path) -> None:
    path = tmp_path / "other.py"
    path.write_text(RECIPE)
    recipe = read_recipe(path)
    assert recipe is not None
    assert (recipe.name, recipe.summary) == ("other", "First line.")
    width, names, each = recipe.options
    assert (width.required, width.default, width.help) == (True, None, "components of a vector.")
    assert (names.required, names.default, names.type) == (False, ("a", "b"), "tuple[str, ...] | None")
    assert names.accepts(("c",)) and names.accepts(None) and not names.accepts("c")
    assert each.accepts(print) and each.accepts(None) and not each.accepts(3)
    with pytest.raises(UsageError, match=r"other needs width: give width=\.\.\., or --width"):
        recipe.check({"names": None})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epoch": 3}, r"contrastive has no option 'epoch' \(the nearest is 'epochs'\); its options are model, epochs"),
        ({"zzz": 3}, r"no option 'zzz'; its options are"),
        ({"lr": "fast"}, "lr='fast': contrastive takes float here"),
        ({"epochs": 1.5}, "takes int here"),
        ({"steps": True}, r"steps=True: contrastive takes int \| None here"),
        ({"symmetric": 1}, "takes bool here"),
        ({"model": 3}, r"model=3: contrastive takes str \| Path \| Embedder here"),
        ({"batch_size": 1}, "batch_size=1: at least 2"),
        ({"lr": float("nan")}, "lr=nan: a finite number, 1e-12 to 1e"),
        ({"dropout": 1.0}, "dropout=1.0: 0.0 to 0.99"),
        ({"steps": 0}, "steps=0: at least 1"),
    ],
)  # fmt: skip
def test_wrong_options_are_one_clear_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        train("contrastive", [("a", "b"), ("c", "d")], **options)
    assert "\n" not in str(raised.value)


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no recipe 'contrast' \(the nearest is 'contrastive'\); there are"):
        train("contrast", [])


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from omnivec.errors import MissingExtra, UsageError
from omnivec.training.recipe_registry import recipes, train
assert recipes()["contrastive"].summary
for options, kind in (({"epoch": 1}, UsageError), ({"epochs": 1}, MissingExtra)):
    try:
        train("contrastive", [], **options)
    except kind as error:
        print(error)
"""


def test_help_and_wrong_options_need_no_torch() -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    wrong, missing = done.stdout.splitlines()
    assert "no option 'epoch'" in wrong
    assert missing == "training contrastive needs torch: pip install 'omnivec[train]'"
