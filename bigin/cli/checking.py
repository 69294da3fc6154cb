"""bigin check."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

import bigin
from bigin.cli.commands import Command
from bigin.cli.layout import print_table
from bigin.cli.models import configuration
from bigin.cli.options import (
    PATH,
    ByOptions,
    RunOptions,
    SampleOptions,
    by_choices,
    gathered,
    json_option,
    needs_config,
    run_options,
    sample_options,
)
from bigin.cli.printing import progress_bar
from bigin.core.text import agree, counted

if TYPE_CHECKING:
    from bigin.inspect.model_check import ModelCheck

HELP = """List the tensors of MODEL that do not look like RECIPE, whatever code and seed initialized them.

The check finds values that were never written (zeros, NaN, leftover memory), wrong standard deviations, fans and
distributions, rows, shards and tensors that are equal although they are random, and tensors that are missing or
unknown. One correct model in a million fails. RECIPE may be omitted with --config, or if MODEL has a record.

The exit code is 0 if nothing is wrong, and 1 otherwise.

\b
bigin check checkpoint/ recipe.toml
bigin check model.safetensors gpt2 --var n_layers=12
bigin check checkpoint/ --config config.json
"""


@dataclass(frozen=True)
class CheckOptions:
    """The options of this command alone."""

    every: bool
    as_json: bool
    dtype: str | None
    by: ByOptions

    @classmethod
    def of(cls, *, every: bool, as_json: bool, dtype: str | None, **by: Any) -> CheckOptions:
        """Gather the values of the options."""
        return cls(every=every, as_json=as_json, dtype=dtype, by=ByOptions.of(recipe=None, **by))


check_options = gathered(
    "how",
    CheckOptions.of,
    *by_choices[1:],
    click.option("--dtype", help="With --like or --config: data type of all floats."),
    click.option("--all", "every", is_flag=True, help="Print every tensor, not only those with findings."),
    json_option,
)


@click.command(cls=Command, no_args_is_help=True, help=HELP, short_help="List tensors that do not look like a recipe.")
@click.argument("model", type=PATH)
@click.argument("recipe", type=PATH, required=False)
@check_options
@sample_options
@run_options
@click.pass_context
def check(
    context: click.Context, model: str, recipe: str | None, how: CheckOptions, sample: SampleOptions, run: RunOptions
) -> None:
    """Check a model."""
    by = how.by
    given: dict[str, Any] = {**sample.arguments(), "threads": run.threads, "max_memory": run.max_memory}
    if by.config is not None and by.like is not None:
        raise click.UsageError("expected --config or --like, got both: each says names, shapes and dtypes")
    needs_config(by)
    with progress_bar(model, quiet=run.quiet or how.as_json) as progress:
        if by.config is not None:
            made = configuration(
                by.config,
                architecture=by.architecture,
                trust_remote_code=by.trust_remote_code,
                dtype=how.dtype,
                rules=recipe,
                variables=by.variables,
                original_names=by.original_names,
            )
            result = made.check(model, **given, progress=progress)
        else:
            given |= {"like": by.like, "variables": by.variables or None, "dtype": how.dtype}
            result = bigin.check(model, recipe, **given, progress=progress)
    if how.as_json:
        click.echo(json.dumps(result.as_dict(), indent=2, allow_nan=False))
    elif not run.quiet:
        print_check(result, every=how.every)
    if not result.right:
        context.exit(1)


def print_check(result: ModelCheck, *, every: bool) -> None:
    """Print the tensors with which something is wrong, or every one, and a line about all."""
    rows = result.tensors if every else result.wrong
    if rows:
        cells = [
            (
                each.tensor,
                f"{'x'.join(map(str, each.shape)) or 'scalar'} {each.dtype}" if each.dtype else "",
                each.wanted,
                number(each.std),
                "; ".join(finding.text for finding in each.findings) or "ok",
            )
            for each in rows
        ]
        print_table(result.target, ("tensor", "shape", "expected", "std", "found"), cells, wrapped="found")
    click.echo(conclusion(result))


def number(value: float) -> str:
    """Return a statistic, or nothing where there is none."""
    return f"{value:.4g}" if math.isfinite(value) else ""


def conclusion(result: ModelCheck) -> str:
    """Return the line about all tensors."""
    count, wrong = len(result.tensors), len(result.wrong)
    part = "" if result.sample == 1 else f", {100 * result.sample:g}% of the values read"
    if result.right:
        return f"{result.target}: {counted(count, 'tensor')} {agree(count, 'looks', 'look')} as {result.by} says{part}"
    verb = agree(wrong, "does", "do")
    return f"{result.target}: {wrong} of {counted(count, 'tensor')} {verb} not look as {result.by} says{part}"
