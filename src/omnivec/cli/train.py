"""`omnivec train`: a command for each recipe, with the recipe's own options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from omnivec.errors import OmnivecError
from omnivec.training.recipe_registry import Option, Recipe, recipes
from omnivec.validation.arguments import expanded

if TYPE_CHECKING:
    from omnivec.models.embedder import Embedder

TYPES = {"bool": bool, "int": int, "float": float, "str": str}
NOT_HERE = {"show_progress_bar"}


class RecipeGroup(click.Group):
    """The recipes as subcommands, made from what their files say, without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The recipes."""
        return list(recipes())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A recipe as a command."""
        recipe = recipes().get(cmd_name)
        return None if recipe is None else _command(recipe)


@click.group("train", cls=RecipeGroup, short_help="Train or fine-tune a model by a recipe.")
def command() -> None:
    """Train or fine-tune a model by a RECIPE, and save it to a folder that every command loads as a model."""


def _command(recipe: Recipe) -> click.Command:
    shown = [option for option in recipe.options if option.name not in NOT_HERE and not option.is_callable]

    def run(data: Path, output: Path, **options: Any) -> None:
        stated = {name: value for name, value in options.items() if value is not None}
        _train(recipe, data, output, stated)

    return click.Command(
        recipe.name,
        callback=run,
        help=f"{recipe.summary}\n\nDATA: {recipe.data or 'a file'}; see docs/train.md.",
        short_help=recipe.summary,
        params=[
            click.Argument(["data"], type=click.Path(path_type=Path)),
            click.Option(
                ["--output", "-o"],
                type=click.Path(path_type=Path),
                required=True,
                help="Folder of the trained model.",
            ),
            *(_option(option) for option in shown),
        ],
    )


def _option(option: Option) -> click.Option:
    """A recipe's option as a flag; what is not given stays the recipe's own default."""
    value_type = next((TYPES[name.strip()] for name in option.type.split("|") if name.strip() in TYPES), str)
    flag = f"--{option.name.replace('_', '-')}"
    default = "" if option.default is None else f"  [default: {option.default}]"
    name = f"{flag}/--no-{flag[2:]}" if value_type is bool else flag
    short = ["-m"] if option.name == "model" else []
    return click.Option(
        [name, *short, option.name],
        type=value_type,
        default=None,
        required=option.required,
        help=option.help + default,
    )


def _train(recipe: Recipe, data: Path, output: Path, options: dict[str, Any]) -> None:
    from omnivec.files import check_target
    from omnivec.training.recipe_registry import train
    from omnivec.weights.folder_writer import check_folder

    if recipe.output == "file":
        check_target(output, [data])
    else:
        check_folder(output)
    model = train(recipe.name, data, **options)
    click.echo(f"saved to {_saved(model, output)}")


def _saved(model: Embedder, output: Path) -> Path:
    """Where a model is now: what was learned is not lost to an output that was good before the training."""
    try:
        return model.save(output)
    except OmnivecError as error:
        near = expanded(output).absolute()
        names = (near.with_name(f"{near.name}-{number}") for number in range(2, 100))
        free = next(name for name in names if not name.exists())
        try:
            saved = model.save(free)
        except OmnivecError:
            raise error from None
        raise OmnivecError(f"{error}; what was learned is saved to {saved}") from error
