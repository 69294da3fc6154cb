"""bigin init and bigin recipes: whole models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from bigin.cli.options import beyond_base, running_options, sync_option
from bigin.cli.printing import outcome, print_table, progress_bar
from bigin.core.text import counted, size_text

if TYPE_CHECKING:
    from bigin.api.models import Row


@click.command(no_args_is_help=True)
@click.argument("recipe")
@click.argument("out", required=False)
@click.option("--like", help="A model whose names, shapes and dtypes the new one has: a checkpoint or a group.")
@click.option("--var", "variables", multiple=True, help="A variable of the recipe: n_layers=32. May be repeated.")
@click.option("--seed", type=int, help="[default: the recipe's, else 0]")
@click.option("--dry-run", is_flag=True, help="Only print what each tensor would be filled with.")
@click.option(
    "--max-shard-size", help="Bytes in a file of a checkpoint: 5GB.  [default: as --like has them, else 5GiB]"
)
@click.option("--overwrite", is_flag=True, help="Replace a model that holds other data.")
@sync_option
@running_options
def init(
    recipe: str,
    out: str | None,
    like: str | None,
    variables: tuple[str, ...],
    seed: int | None,
    dry_run: bool,
    max_shard_size: str | None,
    overwrite: bool,
    threads: int | None,
    max_memory: str | None,
    no_sync: bool,
    quiet: bool,
) -> None:
    """Fill every tensor of a model by the rule of RECIPE that matches it.

    RECIPE is a TOML file, or a recipe that `bigin recipes` lists. OUT is an existing zarr group, filled in place; with
    --like, it is made: a folder for a safetensors checkpoint, x.safetensors for one file, or x.zarr for a group.

    \b
    bigin init gpt2 --var n_layers=12 --like gpt2/ --dry-run
    bigin init recipe.toml --like checkpoint/ out/
    bigin init recipe.toml model.zarr
    """
    from bigin.api import models

    given = dict(map(variable, variables))
    place = like or out
    if place is None or (out is None and not dry_run):
        raise click.UsageError("expected OUT, where the model is or is to be made")
    if dry_run:
        print_rows(models.outline(recipe, place, seed=seed, variables=given))
        return
    assert out is not None
    with progress_bar(out, quiet) as progress:
        report = models.initialize(
            recipe,
            out,
            like=like,
            seed=seed,
            variables=given,
            max_shard_size=max_shard_size,
            overwrite=overwrite,
            threads=threads,
            max_memory=beyond_base(max_memory),
            sync=not no_sync,
            progress=progress,
        )
    if not quiet:
        click.echo(outcome(report, counted(len(report.record["tensors"]), "tensor"), f"filled by {recipe}"))


def variable(text: str) -> tuple[str, str]:
    """NAME=VALUE."""
    name, sign, value = text.partition("=")
    if not sign:
        raise click.BadParameter(f"expected NAME=VALUE, got {text!r}", param_hint="--var")
    return name.strip(), value


def print_rows(rows: Sequence[Row]) -> None:
    """What a recipe says of every tensor."""
    cells = [
        (
            row.tensor,
            f"{'x'.join(map(str, row.shape)) or 'scalar'} {row.dtype}",
            row.rule,
            row.values,
            size_text(row.nbytes),
        )
        for row in rows
    ]
    total = f"{counted(len(rows), 'tensor')}, {size_text(sum(row.nbytes for row in rows))}"
    print_table(total, ("tensor", "shape", "rule", "values", "bytes"), cells, lines=False)


@click.command()
@click.argument("name", required=False)
def recipes(name: str | None) -> None:
    """List the recipes that ship, or print one, to be saved and changed: bigin recipes gpt2 > my.toml"""
    from bigin.recipes.presets import find_recipe, outlines
    from bigin.recipes.read import read_text

    if name is not None:
        click.echo(read_text(find_recipe(name)), nl=False)
        return
    rows = [(outline.name, outline.description, outline.variables, outline.source) for outline in outlines()]
    print_table(
        "bigin init RECIPE ...",
        ("recipe", "values", "variables (--var)", "source"),
        rows,
        "bigin recipes NAME prints one.",
    )
