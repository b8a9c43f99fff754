"""`omnivec info`: a model, how it runs on this machine, and the loss of a lower precision on your own texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from omnivec.cli.common import json_option, print_json, print_table
from omnivec.errors import UsageError
from omnivec.models.embedder import DEFAULT_MODEL

if TYPE_CHECKING:
    from omnivec.models.precision import PrecisionLoss

PARTS = ("towers", "sides")
"""Fields of a model card that hold the cards of the models it consists of."""


@click.command("info", short_help="Show a model's properties and how it runs on this machine.")
@click.argument("model", default=DEFAULT_MODEL)
@click.option(
    "--engine",
    type=click.Choice(["openvino", "torch"]),
    help="Engine that runs the model.  [default: chosen automatically]",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "int8"]),
    help="Precision of the computation.  [default: chosen automatically]",
)
@click.option(
    "--texts",
    metavar="FILE",
    help="Compare --precision with float32 on the lines of this file; - is stdin.",
)
@click.option("--max-memory", metavar="SIZE", help="Memory limit of the process, such as 2GB or 500MiB.")
@json_option
def command(
    model: str,
    engine: str | None,
    precision: str | None,
    texts: str | None,
    max_memory: str | None,
    as_json: bool,
) -> None:
    """Show the properties of MODEL and how it runs on this machine, with the reason for each choice.

    With --texts, compare a lower precision with float32 on these texts: the cosines between their vectors, how many
    nearest neighbours stay the same, the memory of the weights, and the speed.
    """
    from omnivec.models.loading import load

    if texts is not None and precision in (None, "float32"):
        raise UsageError("--texts compares a lower precision with float32: add --precision int8 or bfloat16")
    embedder = load(model, engine=engine, precision=precision, max_memory=max_memory)
    if texts is not None and precision is not None:
        _print_loss(embedder.precision_loss(precision, _lines(texts)), as_json)
    elif as_json:
        print_json([embedder.card])
    else:
        _print_card(embedder.card)


def _lines(file: str) -> list[str]:
    """Returns the lines of a file that are not blank."""
    from omnivec.cli.rows import ItemSource

    source = ItemSource((file,), column=None, lines=True)
    texts = [item for item in source if item and item.strip()]
    if source.failures:
        raise UsageError(source.failures[0])
    return texts


def _print_card(card: Mapping[str, Any], indent: str = "") -> None:
    """Prints a line for each field of a card, with its reason, then the cards of the models that it consists of."""
    reasons, parts = card.get("reasons", {}), {}
    for name, value in card.items():
        if name in PARTS:
            parts = value
        elif name != "reasons":
            why = f"  ({reasons[name]})" if name in reasons else ""
            click.echo(f"{indent}{name.replace('_', ' '):<15} {_shown(value)}{why}")
    for part, facts in parts.items():
        click.echo(f"\n{indent}{part}")
        _print_card(facts, indent + "  ")


def _shown(value: Any) -> object:
    if isinstance(value, dict):
        return "; ".join(f"{name} {_shown(inner)}" for name, inner in value.items()) or "-"
    return (
        (", ".join(map(str, value)) if isinstance(value, list) else value)
        if value not in (None, "", [])
        else "-"
    )


def _print_loss(loss: PrecisionLoss, as_json: bool) -> None:
    if as_json:
        print_json([asdict(loss)])
        return
    rows = [
        ("cosine to float32, mean", f"{loss.cosine_mean:.5f}"),
        ("cosine to float32, 1st percentile", f"{loss.cosine_p1:.5f}"),
        ("cosine to float32, smallest", f"{loss.cosine_min:.5f}"),
        ("same nearest text", f"{loss.same_nearest:.1%}"),
        ("same among the 10 nearest", f"{loss.same_10_nearest:.1%}"),
        ("weights, float32", f"{loss.bytes_float32 / 1e6:,.1f} MB"),
        (f"weights, {loss.precision}", f"{loss.bytes / 1e6:,.1f} MB"),
        ("speed, float32 = 1 (CPU seconds)", f"{loss.speed:.2f}"),
    ]
    print_table((f"{loss.precision}, {loss.texts:,} different texts", ""), rows)
