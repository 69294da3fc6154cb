"""bigin attest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import click

import bigin
from bigin.cli.commands import Command
from bigin.cli.models import configuration
from bigin.cli.options import PATH, ByOptions, RunOptions, by_choices, gathered, json_option, run_options
from bigin.cli.printing import listed
from bigin.core.text import counted

HELP = """Write a manifest of CHECKPOINT: a digest of every tensor, and the specification of its values.

Values are compared with the record, the recipe or the configuration before the manifest is written. --check compares
a manifest with a checkpoint, or without one, with values that are computed again.

The exit code is 0 if all tensors are equal, and 1 otherwise.

\b
bigin attest checkpoint/ -o manifest.json
bigin attest checkpoint/ --recipe recipe.toml --seed 42 -o manifest.json
bigin attest --check manifest.json checkpoint/
bigin attest --check manifest.json    # without a checkpoint
"""


@dataclass(frozen=True)
class AttestOptions:
    """The options of this command alone."""

    output: str | None
    check: str | None
    seed: int | None
    values: bool
    as_json: bool
    by: ByOptions

    @classmethod
    def of(cls, output: str | None, check: str | None, seed: int | None, **given: Any) -> AttestOptions:
        """Gather the values of the options."""
        values, as_json = given.pop("values"), given.pop("as_json")
        return cls(output, check, seed, values, as_json, ByOptions.of(**given))


attest_options = gathered(
    "how",
    AttestOptions.of,
    *by_choices,
    click.option("--seed", type=int, help="Seed, from 0 to 2^64 - 1.  [default: the recipe's, else 0]"),
    click.option("--output", "-o", type=PATH, help="File to write the manifest to.  [default: standard output]"),
    click.option("--check", type=PATH, help="Manifest to check, instead of writing one."),
    click.option("--values", is_flag=True, help="Write digests without comparing the values: for a trained model."),
    json_option,
)


@click.command(cls=Command, no_args_is_help=True, help=HELP, short_help="Write or check a manifest of a checkpoint.")
@click.argument("checkpoint", type=PATH, required=False)
@attest_options
@run_options
@click.pass_context
def attest(context: click.Context, checkpoint: str | None, how: AttestOptions, run: RunOptions) -> None:
    """Attest a checkpoint."""
    how.by.check()
    bounds: dict[str, Any] = {"threads": run.threads, "max_memory": run.max_memory}
    if how.check is not None:
        if how.by.given or how.output is not None or how.values or how.seed is not None:
            raise click.UsageError("expected --check with a checkpoint or alone, got options for a new manifest")
        result = bigin.Attestation.read(how.check).check(checkpoint, **bounds)
        show_check(context, result, how.check, as_json=how.as_json, quiet=run.quiet)
        return
    if checkpoint is None:
        raise click.UsageError("expected CHECKPOINT, or --check with a manifest")
    if how.by.config is not None:
        made = configuration(
            how.by.config,
            architecture=how.by.architecture,
            trust_remote_code=how.by.trust_remote_code,
            seed=how.seed,
            rules=how.by.recipe,
            variables=how.by.variables,
            original_names=how.by.original_names,
        ).attest(checkpoint, how.output, **bounds)
    else:
        by: dict[str, Any] = {
            "recipe": how.by.recipe,
            "like": how.by.like,
            "variables": how.by.variables or None,
            "seed": how.seed,
        }
        made = bigin.attest(checkpoint, how.output, **by, values_only=how.values, **bounds)
    if how.output is None or how.as_json:
        click.echo(made.text, nl=False)
    elif not run.quiet:
        by_what = f", by {made.by}" if made.by else ""
        click.echo(f"{how.output}: {counted(len(made.tensors), 'tensor')} of {checkpoint}{by_what}; {made.digest}")


def show_check(context: click.Context, result: Any, manifest: str, *, as_json: bool, quiet: bool) -> None:
    """Print a comparison with a manifest, and exit with 1 where something differs."""
    if as_json:
        click.echo(json.dumps(result.as_dict(), indent=2))
    elif not quiet:
        print_check(result, manifest)
    if not result.equal:
        context.exit(1)


def print_check(result: Any, manifest: str) -> None:
    """Print which tensors are not those of a manifest, and a line about all."""
    for words, names in (("changed", result.different), ("missing", result.missing), ("unknown", result.extra)):
        if names:
            click.echo(f"{words}: {counted(len(names), 'tensor')} of {result.target}: {listed(names)}")
    said = "equal" if result.equal else "not equal"
    click.echo(f"{result.target}: {counted(result.total, 'tensor')} compared with {manifest}: {said}")
