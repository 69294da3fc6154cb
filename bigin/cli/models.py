"""bigin init and bigin recipes: whole models."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

import bigin
from bigin.cli.commands import Command
from bigin.cli.options import (
    PATH,
    RecipeOptions,
    RunOptions,
    WriteOptions,
    json_option,
    recipe_options,
    run_options,
    write_options,
)
from bigin.cli.plans import Planning, keep, planned
from bigin.cli.printing import outcome, print_entries, print_table, progress_bar
from bigin.core.text import counted, size_text

if TYPE_CHECKING:
    from bigin.api.models import Row

INIT_HELP = """Fill every tensor of a model, each by the first rule of RECIPE that matches its name.

RECIPE is the path of a TOML file, or the name of a recipe that `bigin recipes` lists. OUT is an existing zarr group,
which is filled in place. With --like, OUT is created: a folder for a safetensors checkpoint, x.safetensors for one
file, x.zarr for a zarr group.

\b
bigin init gpt2 --var n_layers=12 --like gpt2/ --dry-run
bigin init recipe.toml --like checkpoint/ out/
bigin init recipe.toml model.zarr
bigin init recipe.toml --like checkpoint/ out/ --parts 500 -o plan.json
"""
RECIPES_HELP = """List the recipes that ship with bigin, or print one.

Save and change a printed recipe to make your own:

\b
bigin recipes gpt2 > my.toml
"""


@click.command(
    cls=Command, no_args_is_help=True, help=INIT_HELP, short_help="Fill every tensor of a model by a recipe."
)
@click.argument("recipe", type=PATH)
@click.argument("out", type=PATH, required=False)
@recipe_options(like_required=False)
@click.option("--dry-run", is_flag=True, help="Only print what each tensor would be filled with.")
@click.option(
    "--max-shard-size", help="Bytes in one file of a checkpoint: 5GB.  [default: the files of --like, else 5GiB]"
)
@write_options
@planned
@run_options
def init(
    recipe: str,
    out: str | None,
    choice: RecipeOptions,
    dry_run: bool,
    max_shard_size: str | None,
    write: WriteOptions,
    planning: Planning,
    run: RunOptions,
) -> None:
    """Fill a model."""
    model = choice.like or out
    if model is None or (out is None and not dry_run):
        raise click.UsageError("expected OUT, the model to fill or to create")
    if dry_run:
        print_rows(bigin.outline(recipe, model, **choice.arguments()))
        return
    assert out is not None
    if planning.parts is not None:
        given = {**choice.arguments(), "max_shard_size": max_shard_size, "overwrite": write.overwrite}
        made = bigin.plan_initialize(recipe, out, parts=planning.parts, like=choice.like, **given)
        keep(made, planning.output, run.quiet)
        return
    with progress_bar(out, run.quiet) as progress:
        report = bigin.initialize(
            recipe,
            out,
            like=choice.like,
            **choice.arguments(),
            **run.arguments(),
            max_shard_size=max_shard_size,
            **write.arguments(),
            progress=progress,
        )
    if not run.quiet:
        click.echo(outcome(report, counted(len(report.record["tensors"]), "tensor"), f"filled by {recipe}"))


def print_rows(rows: Sequence[Row]) -> None:
    """Print what a recipe does with every tensor."""
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
    print_table(total, ("tensor", "shape", "rule", "values", "bytes"), cells, wrapped="values")


@click.command(help=RECIPES_HELP, short_help="List the recipes that ship, or print one.")
@click.argument("name", required=False)
@json_option
def recipes(name: str | None, as_json: bool) -> None:
    """List recipes, or print one."""
    from bigin.recipes.presets import outlines, preset_text

    if name is not None:
        text = preset_text(name)
        click.echo(json.dumps(tomllib.loads(text), indent=2) if as_json else text, nl=as_json)
        return
    if as_json:
        click.echo(json.dumps([asdict(row) for row in outlines()], indent=2))
        return
    entries = [
        (
            row.name,
            (row.description, f"variables: {row.variables}", f"for: {row.architectures}", f"source: {row.source}"),
        )
        for row in outlines()
    ]
    print_entries(entries, "`bigin recipes NAME` prints a recipe, `bigin init NAME` fills a model by it.")
