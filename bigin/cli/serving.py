"""bigin serve."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

import click

import bigin
from bigin.cli.commands import Command
from bigin.cli.options import (
    PATH,
    SHAPE,
    Parsed,
    RecipeOptions,
    SpecOptions,
    gathered,
    json_option,
    max_memory_option,
    recipe_options,
    tensor_options,
)
from bigin.core.text import counted, parse_shape, size_text

HELP = """Serve initial values as a zarr store over HTTP. Values are computed on request and never stored.

With RECIPE and --like, the store has an array for every tensor of the model. With --method and --shape, it is one
array. zarr, tensorstore, zarrita.js and any other reader of zarr format 3 over HTTP can open the printed URL. Press
Ctrl-C to stop the server.

\b
bigin serve gpt2 --like gpt2/ --port 8000
bigin serve recipe.toml --like checkpoint/ --shards 1GiB --max-memory 2GiB
bigin serve --method normal --std 0.02 --shape 1000000000,128 --name table
"""


@dataclass(frozen=True)
class ServeOptions:
    """The options of this command alone."""

    shape: tuple[int, ...] | None
    dtype: str | None
    chunks: Any
    shards: Any
    host: str
    port: int
    origin: str | None
    threads: int | None
    max_memory: str | None

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of bigin.serve."""
        return {key: value for key, value in vars(self).items() if key not in ("shape", "dtype")}


def block(text: Any) -> Any:
    """Return a shape where there are commas, and else a size."""
    return parse_shape(text) if isinstance(text, str) and "," in text else text


BLOCK = Parsed("text", block)
serve_options = gathered(
    "how",
    ServeOptions,
    click.option("--shape", type=SHAPE, help="With --method: shape of the tensor: 1000,256."),
    click.option("--dtype", help="Data type of the tensor, or of all float tensors of a model: float32, ..."),
    click.option("--chunks", type=BLOCK, help="Size of a chunk: 4MiB, or its shape: 1024,256.  [default: 16 MiB]"),
    click.option("--shards", type=BLOCK, help="Size of a shard of whole chunks: 1GiB, or its shape.  [default: none]"),
    click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all."),
    click.option("--port", type=int, default=8000, show_default=True, help="Port to listen on; 0 for any free port."),
    click.option(
        "--origin",
        default="*",
        show_default=True,
        callback=lambda context, option, value: None if value == "none" else value,
        help="Site whose web pages may read the store: https://example.org; `none` for no site.",
    ),
    click.option("--threads", type=int, help="Number of concurrent responses.  [default: the cores of the process]"),
    max_memory_option,
)


@click.command(
    cls=Command, no_args_is_help=True, help=HELP, short_help="Serve initial values as a zarr store over HTTP."
)
@click.argument("recipe", type=PATH, required=False)
@recipe_options(like_required=False)
@tensor_options
@serve_options
@json_option
@click.option("--quiet", "-q", is_flag=True, help="Print only the URL.")
def serve(
    recipe: str | None, choice: RecipeOptions, tensor: SpecOptions, how: ServeOptions, as_json: bool, quiet: bool
) -> None:
    """Serve values."""
    if (recipe is None) == (tensor.method is None):
        raise click.UsageError("expected RECIPE with --like, or --method with --shape")
    if recipe is not None:
        if how.shape is not None or tensor.name is not None or tensor.parameters:
            raise click.UsageError("expected --shape, --name and a method's parameters only beside --method")
        given = {"like": choice.like, "dtype": how.dtype, **choice.arguments(), **how.arguments()}
        server = bigin.serve(recipe, **given)
    else:
        if choice.like is not None or choice.variables or choice.strict:
            raise click.UsageError("expected --like, --var and --strict only beside RECIPE")
        server = bigin.serve(single(tensor, choice.seed or 0, how), **how.arguments())
    with server:
        layouts = server.computed.layouts.values()
        total = sum(layout.nbytes for layout in layouts)
        said = f"serving {counted(len(layouts), 'tensor')}, {size_text(total)}, at {server.url} (Ctrl-C ends it)"
        if as_json:
            said = json.dumps({"url": server.url, "tensors": len(layouts), "nbytes": total})
        click.echo(server.url if quiet else said)
        sys.stdout.flush()
        server.wait()


def single(tensor: SpecOptions, seed: int, how: ServeOptions) -> bigin.VirtualArray:
    """Return the array of --method."""
    if how.shape is None:
        raise click.UsageError("expected --shape beside --method")
    assert tensor.method is not None
    return bigin.virtual(
        how.shape, tensor.method, seed=seed, name=tensor.name or "", dtype=how.dtype or "float32", **tensor.parameters
    )
