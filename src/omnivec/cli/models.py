"""`omnivec models`: what can be loaded."""

from __future__ import annotations

import click

from omnivec.cli.common import json_option, print_json, print_table


@click.command("models", short_help="List known models and families.")
@json_option
def command(as_json: bool) -> None:
    """List the models known by a short name, whether they are on this machine, and the families.

    Any other model of these families loads by its folder, or as hf:org/name.
    """
    from omnivec import hub, registry

    known = registry.known()
    here = {resolved.name: resolved.source for resolved in hub.cached(known)}
    if as_json:
        print_json({"model": name, **facts, "here": here.get(name)} for name, facts in known.items())
        others = [name for name in here if name not in known]
        print_json({"model": name, "here": here[name]} for name in others)
        return
    rows = [
        (
            name,
            facts["family"],
            facts["dim"],
            facts["length"],
            facts["licence"],
            "yes" if name in here else "no",
        )
        for name, facts in known.items()
    ]
    print_table(("model", "family", "dim", "tokens", "licence", "here"), rows)
    for name in here:
        if name not in known:
            click.echo(name)
    click.echo("\nfamilies")
    print_table(
        ("family", "model types", "what"),
        [(f.name, " ".join(f.claims.get("model_type", ())), f.summary) for f in registry.families().values()],
    )
