"""`omnivec train`: a subcommand for each recipe, with the options of the recipe."""

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
    """The recipes as subcommands; their options are read from the source of the recipe, without importing it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Lists the recipes."""
        return list(recipes())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Makes the command of a recipe."""
        recipe = recipes().get(cmd_name)
        return None if recipe is None else _command(recipe)


@click.group("train", cls=RecipeGroup, short_help="Train or fine-tune a model with a recipe.")
def command() -> None:
    """Train or fine-tune a model with a RECIPE and save it to a folder, which every --model option accepts."""


def _command(recipe: Recipe) -> click.Command:
    shown = [option for option in recipe.options if option.name not in NOT_HERE and not option.is_callable]

    def run(data: Path, output: Path, **values: Any) -> None:
        _train(recipe, data, output, {name: value for name, value in values.items() if value is not None})

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
    """Makes the command-line option for an option of a recipe; its default is None, so that the recipe's applies."""
    option_type = next((TYPES[name.strip()] for name in option.type.split("|") if name.strip() in TYPES), str)
    flag = f"--{option.name.replace('_', '-')}"
    default = "" if option.default is None else f"  [default: {option.default}]"
    name = f"{flag}/--no-{flag[2:]}" if option_type is bool else flag
    short = ["-m"] if option.name == "model" else []
    return click.Option(
        [name, *short, option.name],
        type=option_type,
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
    """Saves a model and returns its path: beside `output` if that can no longer be written, so that it is not lost."""
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
        raise OmnivecError(f"{error}; the trained model is saved to {saved} instead") from error
