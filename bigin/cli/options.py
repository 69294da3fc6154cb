"""The options that commands share: each is defined once, and each group of them is passed as one value."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from bigin.cli.commands import ParameterOption
from bigin.core.paths import expand
from bigin.core.storage import set_options
from bigin.core.text import parse_fraction, parse_shape
from bigin.methods.table import METHODS, PARAMETERS

Function = Callable[..., None]
Decorator = Callable[[Function], Function]


def methods_that_begin_with(context: click.Context, option: click.Parameter, text: str) -> list[str]:
    """Return what a shell completes a method's name to."""
    return [name for name in METHODS if name.startswith(text)]


GATHERED = "gathered options"  # no option has a name with a space


def gathered(into: str, build: Callable[..., Any], *options: Decorator) -> Decorator:
    """Add options to a command, which gets what `build` makes of their values as its argument `into`."""

    def probe() -> None: ...

    for option in options:
        option(probe)
    parameters = probe.__click_params__  # type: ignore[attr-defined]
    names = [parameter.name for parameter in parameters if parameter.expose_value]

    def decorate(command: Function) -> Function:
        # An outer group's value waits under GATHERED, as an option of an inner group may have its name.
        @functools.wraps(command)
        def call(**values: Any) -> None:
            made = values.pop(GATHERED, {}) | {into: build(**{name: values.pop(name) for name in names})}
            if getattr(command, "gathers", False):
                command(**values, **{GATHERED: made})
            else:
                command(**values, **made)

        call.gathers = True  # type: ignore[attr-defined]
        for option in reversed(options):
            option(call)
        return call

    return decorate


# What a text becomes


class Number(click.ParamType[int | float]):
    """An integer, kept whole, or a float."""

    name = "number"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | float:
        """Convert a text to a number."""
        try:
            return int(value)
        except ValueError:
            number: float = click.FLOAT.convert(value, param, ctx)
            return number


class Integers(click.ParamType[list[int]]):
    """Integers with commas between them; `what` and `example` are for the message."""

    def __init__(self, name: str, example: str) -> None:
        self.name = name
        self.example = example

    def convert(self, value: Any, param: Any, ctx: Any) -> list[int]:
        """Convert a text to a list of integers."""
        if not isinstance(value, str):
            return list(value)
        numbers = [number.strip() for number in value.split(",")]
        if not all(re.fullmatch(r"[+-]?[0-9]+", number) for number in numbers):
            self.fail(f"expected {self.name} such as {self.example}, got {value!r}", param, ctx)
        return [int(number) for number in numbers]


class Ids(click.ParamType[Any]):
    """Row numbers: 5,7,10 or 5:9, @FILE for a file of them (text, or .npy), - for standard input."""

    name = "ids"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Convert a text to an array of integers."""
        if not isinstance(value, str):
            return value
        import numpy as np

        text, where = value, repr(value)
        try:
            if value.startswith("@"):
                where, path = value[1:], expand(value[1:])
                if str(path).endswith(".npy"):
                    return np.load(path, allow_pickle=False)
                text = Path(path).read_text(encoding="utf-8")
            elif value == "-":
                where, text = "standard input", sys.stdin.read()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            self.fail(f"expected a file of ids, got {where}: {reason}", param, ctx)
        words = text.replace(",", " ").split()
        wrong = next((word for word in words if not ID.fullmatch(word)), None)
        if wrong is not None or (not words and text is value):
            what = where if text is value else f"{wrong!r} in {where}"
            self.fail(f"expected ids such as 5,7,10 or 5:9 or @ids.txt, got {what}", param, ctx)
        if not any(":" in word for word in words):
            return np.array([int(word) for word in words])
        pairs = [
            (int(first), int(last or first) + (not last)) for first, _, last in (word.partition(":") for word in words)
        ]
        count = sum(max(0, last - first) for first, last in pairs)
        if count > MOST_IDS or any(abs(end) >= 1 << 63 for pair in pairs for end in pair):
            self.fail(f"expected at most {MOST_IDS} ids below 2^63, got {count} in {where}", param, ctx)
        return np.concatenate([np.arange(first, last, dtype=np.int64) for first, last in pairs])


class Parsed(click.ParamType[Any]):
    """A text that a function converts. The function raises InputError, which the command line prints as it is."""

    def __init__(self, name: str, parse: Callable[[Any], Any]) -> None:
        self.name = name
        self.parse = parse

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Convert a text."""
        return self.parse(value)


NUMBER, AXES = Number(), Integers("axes", "1 or -2,-1")
MOST_IDS = 1 << 28  # in ranges: 2 GiB of numbers
ID = re.compile(r"[+-]?[0-9]+(:[0-9]+)?")
IDS = Ids()
PATH, SHAPE, FRACTION = Parsed("text", expand), Parsed("text", parse_shape), Parsed("text", parse_fraction)


# What a tensor's values are


@dataclass(frozen=True)
class SpecOptions:
    """The options that say what the values are."""

    method: str | None
    seed: int | None
    name: str | None
    parameters: Mapping[str, Any]

    @classmethod
    def of(cls, method: str | None, seed: int | None, name: str | None, **parameters: Any) -> SpecOptions:
        """Gather the values of the options; parameters that were not given are left out."""
        return cls(method, seed, name, {key: value for key, value in parameters.items() if value is not None})

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of bigin.fill beside the method."""
        return {"seed": self.seed or 0, "name": self.name, **self.parameters}


def _parameter_option(name: str) -> Decorator:
    parameter = PARAMETERS[name]
    methods = [method.name for method in METHODS.values() if name in method.defaults]
    kinds: dict[str, Any] = {"number": float, "integer": int, "value": NUMBER, "axes": AXES}
    first = parameter.help.split()[0]
    text = parameter.help if "_" in first else parameter.help[0].upper() + parameter.help[1:]
    return click.option(
        f"--{name.replace('_', '-')}",
        name,
        cls=ParameterOption,
        type=kinds.get(parameter.kind, str),
        help=f"{text}.  [{', '.join(methods)}]",
    )


def spec_options(*, method_help: str, method_required: bool, by_recipe: bool = False) -> Decorator:
    """Add --method, its parameters, --seed and --name, as the argument `spec`."""
    return gathered(
        "spec",
        SpecOptions.of,
        click.option(
            "--method", "-m", required=method_required, help=method_help, shell_complete=methods_that_begin_with
        ),
        click.option("--seed", type=int, help="Seed, from 0 to 2^64 - 1.  [default: the recipe's, else 0]")
        if by_recipe
        else click.option("--seed", default=0, show_default=True, help="Seed, from 0 to 2^64 - 1."),
        click.option(
            "--name",
            help="Name of the tensor; it selects the stream.  [default: its path in a hierarchy, or its file name]",
        ),
        *map(_parameter_option, PARAMETERS),
    )


def given(**parameters: Any) -> dict[str, Any]:
    """Gather parameters; those that were not given are left out."""
    return {key: value for key, value in parameters.items() if value is not None}


parameter_options = gathered("parameters", given, *map(_parameter_option, PARAMETERS))
tensor_options = gathered(
    "tensor",
    functools.partial(SpecOptions.of, seed=0),
    click.option(
        "--method",
        "-m",
        help="Method of a single tensor; `bigin methods` lists them.",
        shell_complete=methods_that_begin_with,
    ),
    click.option("--name", help="Name of the single tensor; it selects the stream.  [default: none]"),
    *map(_parameter_option, PARAMETERS),
)
filled_with = spec_options(method_help="Method to fill with; `bigin methods` lists them.", method_required=True)
compared_with = spec_options(
    method_help="Method to compare with.  [default: the one in the provenance record]",
    method_required=False,
    by_recipe=True,
)


# Where the values are


@dataclass(frozen=True)
class LayoutOptions:
    """The options that say how a target's values lie."""

    shape: tuple[int, ...] | None
    dtype: str | None
    raw: bool
    offset: int

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of bigin.fill."""
        return vars(self)


dtype_option = click.option("--dtype", help="Data type: float32, bfloat16, ...  [default: float32 for a new target]")
layout_options = gathered(
    "layout",
    LayoutOptions,
    click.option("--shape", type=SHAPE, help="Shape of a new or raw target: 1000,256."),
    dtype_option,
    click.option("--raw", is_flag=True, help="The target is a file of values without a header."),
    click.option("--offset", default=0, show_default=True, help="Byte at which the values of a raw file begin."),
)


@dataclass(frozen=True)
class BlockOptions:
    """The options that say how a new zarr array is cut."""

    chunks: tuple[int, ...] | None
    shards: tuple[int, ...] | None

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of bigin.fill."""
        return vars(self)


block_options = gathered(
    "blocks",
    BlockOptions,
    click.option("--chunks", type=SHAPE, help="Shape of a chunk of a new zarr array: 16384,256.  [default: 16 MiB]"),
    click.option(
        "--shards", type=SHAPE, help="Shape of a shard of a new zarr array, of whole chunks.  [default: none]"
    ),
)


# How the work is done


def _set_storage(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> None:
    """Put the options of stores in force, for the rest of the process."""
    given = {}
    for text in values:
        name, sign, value = text.partition("=")
        if not sign or not name.strip():
            raise click.BadParameter(f"expected KEY=VALUE, got {text!r}", param_hint="--storage-option")
        given[name.strip()] = value
    set_options(given)


storage_option = click.option(
    "--storage-option",
    multiple=True,
    expose_value=False,
    callback=_set_storage,
    metavar="KEY=VALUE",
    help="Option of an object store: region=eu-west-1. May be repeated.  [default: the environment's]",
)


@dataclass(frozen=True)
class RunOptions:
    """The options that bound the work."""

    threads: int | None
    max_memory: str | None
    requests: int | None
    quiet: bool

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of bigin.fill."""
        return {"threads": self.threads, "max_memory": self.max_memory, "requests": self.requests}


max_memory_option = click.option(
    "--max-memory",
    help="Memory for buffers and preparation, beside Python and its libraries: 2GiB.  "
    "[default: a quarter of the free memory]",
)
run_options = gathered(
    "run",
    RunOptions,
    click.option("--threads", type=int, help="Number of threads.  [default: the cores that the process may use]"),
    max_memory_option,
    click.option(
        "--requests",
        type=int,
        help="Number of chunks of a network store that are in flight at once.  [default: adapted to the store]",
    ),
    click.option("--quiet", "-q", is_flag=True, help="Print only errors."),
    storage_option,
)


@dataclass(frozen=True)
class DeviceOptions:
    """The options that select a device."""

    device: str
    max_device_memory: str | None

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of bigin.fill."""
        return vars(self)


device_options = gathered(
    "device",
    DeviceOptions,
    click.option(
        "--device",
        default="cpu",
        show_default=True,
        help="Device that computes the values: cpu, cuda, cuda:1, or auto for the fastest.",
    ),
    click.option("--max-device-memory", help="Memory to use on the device: 2GiB.  [default: all that is free]"),
)


@dataclass(frozen=True)
class SampleOptions:
    """The options that select some of the chunks."""

    sample: float
    sample_seed: int

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of bigin.verify."""
        return vars(self)


sample_options = gathered(
    "sample",
    SampleOptions,
    click.option("--sample", type=FRACTION, default="100%", show_default=True, help="Share of the chunks to read: 1%."),
    click.option("--sample-seed", default=0, show_default=True, help="Seed that selects the sampled chunks."),
)
sync_option = click.option(
    "--no-sync", "sync", flag_value=False, default=True, help="Return before the data has reached the disk."
)


@dataclass(frozen=True)
class WriteOptions:
    """The options that say what may be replaced, and what is waited for."""

    overwrite: bool
    sync: bool

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of bigin.fill."""
        return vars(self)


write_options = gathered(
    "write",
    WriteOptions,
    click.option("--overwrite", is_flag=True, help="Replace the data of a target that is already filled."),
    sync_option,
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


@dataclass(frozen=True)
class OutputOptions:
    """The options that select how a result is shown."""

    plot: str | None
    as_json: bool


output_options = gathered(
    "output",
    OutputOptions,
    click.option("--plot", type=PATH, help="Draw the result into this image file: out.png."),
    json_option,
)


# Recipes


@dataclass(frozen=True)
class ByOptions:
    """The options that say what a model that is there should hold, where no record does."""

    recipe: str | None
    like: str | None
    variables: Mapping[str, str]
    config: str | None
    architecture: str | None
    trust_remote_code: bool
    original_names: bool

    @classmethod
    def of(cls, recipe: str | None, like: str | None, variables: tuple[str, ...], **given: Any) -> ByOptions:
        """Gather the values of the options."""
        return cls(recipe, like, dict(map(parse_variable, variables)), **given)

    @property
    def given(self) -> bool:
        """Whether any of them is given."""
        return self != ByOptions(None, None, {}, None, None, trust_remote_code=False, original_names=False)

    def check(self) -> None:
        """Raise UsageError for options that do not go together."""
        if self.config is not None and self.like is not None:
            raise click.UsageError("expected --config or --like, got both: each gives names, shapes and dtypes")
        needs_config(self)
        if self.config is not None and self.recipe is None and self.variables:
            raise click.UsageError("expected --var only beside --recipe")


config_option = click.option(
    "--config", type=PATH, help="Configuration of a model of transformers: config.json, or the folder with it."
)
architecture_option = click.option(
    "--architecture", help="Class of transformers.  [default: the first that --config names]"
)
trust_option = click.option(
    "--trust-remote-code", is_flag=True, help="Run the model's own code that comes with --config (auto_map)."
)


@dataclass(frozen=True)
class OwnCode:
    """The options that say whose code a configuration's model is."""

    config: str | None
    architecture: str | None
    trust_remote_code: bool
    original_names = False

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of bigin.torch.Configuration beside the configuration."""
        return {"architecture": self.architecture, "trust_remote_code": self.trust_remote_code}


own_code_options = gathered("code", OwnCode, config_option, architecture_option, trust_option)


def needs_config(options: Any) -> None:
    """Raise UsageError for options that say more of a configuration, where there is none."""
    if options.config is None and (options.architecture or options.original_names or options.trust_remote_code):
        raise click.UsageError("expected --architecture, --original-names and --trust-remote-code only beside --config")


by_choices = (
    click.option("--recipe", type=PATH, help="Recipe with the expected values of a whole model: its path or name."),
    click.option(
        "--like",
        type=PATH,
        help="With --recipe: model that gives names, shapes and dtypes.  [default: the model itself]",
    ),
    click.option(
        "--var", "variables", multiple=True, help="Set a variable of the recipe: n_layers=32. May be repeated."
    ),
    config_option,
    architecture_option,
    trust_option,
    click.option(
        "--original-names", is_flag=True, help="With --config: tensor names as in files on the Hugging Face Hub."
    ),
)


@dataclass(frozen=True)
class RecipeOptions:
    """The options that say what a recipe is applied to, and how."""

    like: str | None
    variables: Mapping[str, str]
    seed: int | None
    strict: bool

    @classmethod
    def of(cls, like: str | None, variables: tuple[str, ...], seed: int | None, *, strict: bool) -> RecipeOptions:
        """Gather the values of the options."""
        return cls(like, dict(map(parse_variable, variables)), seed, strict=strict)

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of bigin.initialize beside `like`."""
        return {"variables": self.variables, "seed": self.seed, "strict": self.strict}


def parse_variable(text: str) -> tuple[str, str]:
    """Split NAME=VALUE."""
    name, sign, value = text.partition("=")
    if not sign:
        raise click.BadParameter(f"expected NAME=VALUE, got {text!r}", param_hint="--var")
    return name.strip(), value


def recipe_options(*, like_required: bool) -> Decorator:
    """Add --like, --var and --seed, as the argument `choice`."""
    return gathered(
        "choice",
        RecipeOptions.of,
        click.option(
            "--like",
            type=PATH,
            required=like_required,
            help="Model that gives names, shapes and dtypes: a safetensors file, a checkpoint folder or a zarr group.",
        ),
        click.option(
            "--var", "variables", multiple=True, help="Set a variable of the recipe: n_layers=32. May be repeated."
        ),
        click.option("--seed", type=int, help="Seed, from 0 to 2^64 - 1.  [default: the recipe's, else 0]"),
        click.option("--strict", is_flag=True, help="Fail, instead of warning, if a rule matches no tensor."),
    )
