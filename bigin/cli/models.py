"""bigin init, bigin recipe and bigin recipes: whole models."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import click

import bigin
from bigin.cli.commands import Command
from bigin.cli.layout import print_table
from bigin.cli.options import (
    PATH,
    OwnCode,
    RecipeOptions,
    RunOptions,
    WriteOptions,
    architecture_option,
    config_option,
    gathered,
    json_option,
    needs_config,
    own_code_options,
    recipe_options,
    run_options,
    trust_option,
    write_options,
)
from bigin.cli.plans import Planning, keep, planned
from bigin.cli.printing import outcome, print_entries, progress_bar
from bigin.core.collector import paused
from bigin.core.errors import InputError
from bigin.core.text import counted, size_text

if TYPE_CHECKING:
    from bigin.api.models import Row
    from bigin.api.plans import Plan
    from bigin.jobs.report import Report
    from bigin.torch.configuration import Configuration

INIT_HELP = """Fill every tensor of a model, each by the first rule of RECIPE that matches its name.

RECIPE is the path of a TOML file, or the name of a recipe that `bigin recipes` lists. OUT is an existing zarr group,
which is filled in place. With --like or --config, OUT is created: a folder for a safetensors checkpoint, x.safetensors
for one file, x.zarr for a zarr group. With --config, tensors without a rule get the values that the model's own code
in transformers makes, and RECIPE may be omitted.

\b
bigin init gpt2 --var n_layers=12 --like gpt2/ --dry-run
bigin init recipe.toml --like checkpoint/ out/
bigin init recipe.toml model.zarr
bigin init recipe.toml --like checkpoint/ out/ --parts 500 -o plan.json
bigin init --config config.json out/ --dtype bfloat16
bigin init --config config.json out/ --format orbax
bigin init --config config.json out/ --format dcp
bigin init --dummy --like quantized/ out/
"""
RECIPE_HELP = """Print a recipe that initializes a model as its own code in transformers does.

\b
bigin recipe --config config.json > my.toml
bigin init my.toml --config config.json out/
"""
RECIPES_HELP = """List the recipes that ship with bigin, or print one.

Save a printed recipe and edit it to make your own:

\b
bigin recipes gpt2 > my.toml
"""

DCP = ("dcp", "dcp-safetensors")  # forms of torch.distributed.checkpoint


@dataclass(frozen=True)
class ModelOptions:
    """The options that say what model is written, and in which form."""

    config: str | None
    architecture: str | None
    trust_remote_code: bool
    dtype: str | None
    max_shard_size: str | None
    weights_only: bool
    original_names: bool
    dummy: bool
    format: str | None
    source: str | None
    as_json: bool

    @property
    def tree(self) -> str | None:
        """The form that the ending of OUT does not tell: orbax, or None."""
        return self.format if self.format == "orbax" else None

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of what writes a model."""
        return {"max_shard_size": self.max_shard_size, "weights_only": self.weights_only}


model_options = gathered(
    "form",
    ModelOptions,
    config_option,
    architecture_option,
    trust_option,
    click.option("--dtype", help="Data type of all floats: bfloat16, ...  [default: those of --like or --config]"),
    click.option(
        "--max-shard-size", help="Bytes in one file of a checkpoint: 5GB.  [default: the files of --like, else 5GiB]"
    ),
    click.option(
        "--weights-only", is_flag=True, help="Do not copy config.json, generation_config.json and tokenizer files."
    ),
    click.option(
        "--original-names",
        is_flag=True,
        help="With --config: tensor names as in files on the Hugging Face Hub, with experts as separate tensors.",
    ),
    click.option(
        "--dummy", is_flag=True, help="Fill a copy of --like, quantized or not, for benchmarks. Takes no RECIPE."
    ),
    click.option(
        "--format",
        type=click.Choice(["safetensors", "orbax", *DCP]),
        help="Format of a checkpoint folder: orbax is for orbax.checkpoint; dcp and dcp-safetensors are for "
        "torch.distributed.checkpoint.  [default: safetensors]",
    ),
    click.option(
        "--from",
        "source",
        type=PATH,
        help="Checkpoint that rules copy tensors from.  [default: the recipe's `from`]",
    ),
    json_option,
)


@click.command(
    cls=Command, no_args_is_help=True, help=INIT_HELP, short_help="Fill every tensor of a model by a recipe."
)
@click.argument("recipe", type=PATH, required=False)
@click.argument("out", type=PATH, required=False)
@recipe_options(like_required=False)
@click.option("--dry-run", is_flag=True, help="Print what each tensor would be filled with; write nothing.")
@model_options
@write_options
@planned
@run_options
def init(
    recipe: str | None,
    out: str | None,
    choice: RecipeOptions,
    dry_run: bool,
    form: ModelOptions,
    write: WriteOptions,
    planning: Planning,
    run: RunOptions,
) -> None:
    """Fill a model."""
    if form.dummy:
        making: Making = Dummy(choice, form)
        recipe, out = (None, recipe) if out is None else (recipe, out)
        if recipe is not None:
            raise click.UsageError("expected no RECIPE beside --dummy")
    elif form.config is not None:
        if out is None and recipe is not None and not recipe.endswith(".toml"):
            recipe, out = None, recipe
        making = FromConfig(recipe, choice, form)
    elif recipe is None:
        raise click.UsageError("expected RECIPE, or --config with a model's configuration")
    else:
        needs_config(form)
        making = ByRecipe(recipe, choice, form)
    if (choice.like or form.config or out) is None or (out is None and not dry_run):
        raise click.UsageError("expected OUT, the model to fill or to create")
    if form.format == "orbax" and form.dummy:
        raise click.UsageError("expected --format orbax without --dummy")
    if form.format in DCP:
        check_dcp(choice, form, out, copies=isinstance(making, ByRecipe) and making.copies())
    if dry_run:
        rows = making.outline(out)
        if form.as_json:
            click.echo(json.dumps([asdict(row) for row in rows], indent=2))
        else:
            print_rows(rows, making.says)
        return
    assert out is not None
    if planning.parts is not None:
        made = making.plan(out, parts=planning.parts, overwrite=write.overwrite)
        keep(made, planning.output, quiet=run.quiet, as_json=form.as_json)
        return
    with progress_bar(out, quiet=run.quiet or form.as_json) as progress:
        report = making.fill(out, **run.arguments(), **write.arguments(), progress=progress)
    if form.as_json:
        click.echo(json.dumps(report.as_dict(), indent=2))
    elif not run.quiet:
        click.echo(outcome(report, counted(len(report.record["tensors"]), "tensor"), f"filled by {making.label}"))


class Making(Protocol):
    """What a command makes a model of. `says` is what its rows tell of each tensor, `label` what fills it."""

    says: str
    label: str

    def outline(self, out: str | None) -> Sequence[Row]:
        """Return a row for every tensor."""

    def plan(self, out: str, **given: Any) -> Plan:
        """Cut it into parts."""

    def fill(self, out: str, **given: Any) -> Report:
        """Write it."""


class ByRecipe:
    """A recipe, for a model that is there."""

    says = "rule"

    def __init__(self, recipe: str, choice: RecipeOptions, form: ModelOptions) -> None:
        self.recipe, self.choice, self.form = recipe, choice, form
        self.label = recipe

    def outline(self, out: str | None) -> Sequence[Row]:
        like = self.choice.like or (None if self.copies() else out)
        options: dict[str, Any] = {"dtype": self.form.dtype, "source": self.form.source}
        return bigin.outline(self.recipe, like, **options, **self.choice.arguments())

    def plan(self, out: str, **given: Any) -> Plan:
        if self.form.format in DCP:
            made: Plan = storing().plan_dcp(self.recipe, out, **self._as_dcp(given))
            return made
        return bigin.plan_initialize(self.recipe, out, format=self.form.tree, **self._given(), **given)

    def fill(self, out: str, **given: Any) -> Report:
        if self.form.format in DCP:
            report: Report = storing().save_dcp(self.recipe, out, **self._as_dcp(given))
            return report
        return bigin.initialize(self.recipe, out, format=self.form.tree, **self._given(), **given)

    def _as_dcp(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return as_dcp(self.form, {**self._given(), **given, "source_checkpoint": self.form.source})

    def copies(self) -> bool:
        """Return whether the new model may be like the one that its tensors are copied from."""
        from bigin.recipes.presets import find_recipe
        from bigin.recipes.read import read_recipe

        path = find_recipe(self.recipe)
        return self.form.source is not None or read_recipe(path, self.choice.variables).origin is not None

    def _given(self) -> dict[str, Any]:
        like = {"like": self.choice.like, "dtype": self.form.dtype, "source": self.form.source}
        return {**like, **self.choice.arguments(), **self.form.arguments()}


class FromConfig:
    """A configuration, whose model its own code initializes, or a recipe where it has a rule."""

    says = "module"

    def __init__(self, recipe: str | None, choice: RecipeOptions, form: ModelOptions) -> None:
        if choice.like is not None:
            raise click.UsageError("expected --config or --like, got both: each says names, shapes and dtypes")
        assert form.config is not None
        self.model = configuration(
            form.config,
            architecture=form.architecture,
            trust_remote_code=form.trust_remote_code,
            dtype=form.dtype,
            rules=recipe,
            original_names=form.original_names,
            source=form.source,
            **choice.arguments(),
        )
        self.form = form
        self.label = f"the code of {type(self.model.module).__name__}" if recipe is None else recipe

    def outline(self, out: str | None) -> Sequence[Row]:
        return self.model.outline()

    def plan(self, out: str, **given: Any) -> Plan:
        if self.form.format in DCP:
            made: Plan = storing().plan_dcp(self.model, out, **as_dcp(self.form, {**self.form.arguments(), **given}))
            return made
        return self.model.plan(out, format=self.form.tree, **self.form.arguments(), **given)

    def fill(self, out: str, **given: Any) -> Report:
        if self.form.format in DCP:
            report: Report = storing().save_dcp(
                self.model, out, **as_dcp(self.form, {**self.form.arguments(), **given})
            )
            return report
        given.pop("requests")
        return self.model.initialize(out, format=self.form.tree, **self.form.arguments(), **given)


class Dummy:
    """Weights of which only the speed matters, for a copy of a model that is there."""

    says = ""
    label = "weights to measure with"

    def __init__(self, choice: RecipeOptions, form: ModelOptions) -> None:
        for key, given in (
            ("config", form.config),
            ("dtype", form.dtype),
            ("architecture", form.architecture),
            ("from", form.source),
            ("original-names", form.original_names),
            ("trust-remote-code", form.trust_remote_code),
            ("var", choice.variables),
            ("strict", choice.strict),
        ):
            if given:
                raise click.UsageError(f"expected --dummy without --{key}")
        if choice.like is None:
            raise click.UsageError("expected --like beside --dummy, a checkpoint that says names, shapes and dtypes")
        self.like, self.seed, self.form = choice.like, choice.seed or 0, form

    def outline(self, out: str | None) -> Sequence[Row]:
        return bigin.outline_dummy(self.like, seed=self.seed)

    def plan(self, out: str, **given: Any) -> Plan:
        return bigin.plan_dummy(out, self.like, seed=self.seed, **self.form.arguments(), **given)

    def fill(self, out: str, **given: Any) -> Report:
        return bigin.initialize_dummy(out, self.like, seed=self.seed, **self.form.arguments(), **given)


def check_dcp(choice: RecipeOptions, form: ModelOptions, out: str | None, *, copies: bool) -> None:
    """Refuse what a checkpoint of torch.distributed has not; raises UsageError."""
    if form.dummy:
        raise click.UsageError(f"expected --format {form.format} without --dummy")
    if choice.like is None and form.config is None and not copies:
        raise click.UsageError(
            f"expected --like or --config beside --format {form.format}, as no model is filled in place"
        )
    if out is not None and out.rstrip("/").endswith((".safetensors", ".zarr")):
        raise click.UsageError(f"expected a folder for --format {form.format}, got {out}")


def as_dcp(form: ModelOptions, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with the format, and without those that are for the files of other checkpoints."""
    return {
        "format": form.format,
        **{key: value for key, value in given.items() if key not in ("weights_only", "requests", "source")},
    }


def storing() -> Any:
    """Return what writes checkpoints of torch.distributed; raises InputError where torch is missing."""
    try:
        from bigin.torch import storing
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise InputError("expected torch, whose checkpoints --format dcp writes; pip install 'bigin[torch]'") from None
    return storing


def configuration(config: str, **given: Any) -> Configuration:
    """Return the model of a configuration; raises InputError where torch or transformers is missing."""
    try:
        with paused():  # a fifth of the time of importing torch
            from bigin.torch.configuration import Configuration
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise InputError(
            "expected torch and transformers, whose classes --config names; pip install 'bigin[transformers]'"
        ) from None
    return Configuration(config, **given)


@click.command(
    cls=Command, no_args_is_help=True, help=RECIPE_HELP, short_help="Print a recipe of a transformers model."
)
@own_code_options
@click.option("--seed", type=int, default=0, show_default=True, help="Seed, from 0 to 2^64 - 1.")
@json_option
def recipe(code: OwnCode, seed: int, *, as_json: bool) -> None:
    """Print a recipe."""
    if code.config is None:
        raise click.UsageError("expected --config, a model's configuration; `bigin recipes` lists those that ship")
    text = configuration(code.config, **code.arguments(), seed=seed).recipe()
    click.echo(json.dumps(tomllib.loads(text), indent=2) if as_json else text, nl=as_json)


def print_rows(rows: Sequence[Row], says: str) -> None:
    """Print what every tensor is filled with, and the rule that says so or the module that holds it, if any."""
    cells = [
        (
            row.tensor,
            f"{'x'.join(map(str, row.shape)) or 'scalar'} {row.dtype}",
            *([row.rule] if says else []),
            row.values,
            size_text(row.nbytes),
        )
        for row in rows
    ]
    total = f"{counted(len(rows), 'tensor')}, {size_text(sum(row.nbytes for row in rows))}"
    print_table(total, ("tensor", "shape", *([says] if says else []), "values", "bytes"), cells, wrapped="values")


@click.command(cls=Command, help=RECIPES_HELP, short_help="List the recipes that ship with bigin, or print one.")
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
    print_entries(entries, "`bigin recipes NAME` prints a recipe; `bigin init NAME` fills a model with it.")
