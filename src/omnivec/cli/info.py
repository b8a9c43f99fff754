"""`omnivec info`: a model, and how it runs here."""

from __future__ import annotations

import click

from omnivec.cli.common import json_option, print_json
from omnivec.embedder import DEFAULT_MODEL


@click.command("info", short_help="Show what a model is and how it runs here.")
@click.argument("model", default=DEFAULT_MODEL)
@click.option("--engine", type=click.Choice(["openvino", "torch"]), help="[default: chosen by itself]")
@click.option("--precision", type=click.Choice(["float32", "bfloat16"]), help="[default: chosen by itself]")
@json_option
def command(model: str, engine: str | None, precision: str | None, as_json: bool) -> None:
    """Show what MODEL is and how it runs on this machine, each choice with its reason."""
    from omnivec.embedder import load

    card = load(model, engine=engine, precision=precision).card
    if as_json:
        print_json([card])
        return
    reasons = card.pop("reasons")
    for name, value in card.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        why = f"  ({reasons[name]})" if name in reasons else ""
        click.echo(f"{name.replace('_', ' '):<15} {shown if shown not in (None, '', {}) else '-'}{why}")
