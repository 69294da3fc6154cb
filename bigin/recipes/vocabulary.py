"""Which tensors of a model have a row for every token, and what its configuration says of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bigin.core.errors import InputError
from bigin.core.names import dotted
from bigin.core.regions import Shape
from bigin.core.text import similar

# The last parts of names in the classes of transformers and in the checkpoints of other libraries.
INPUTS = (
    *("embed_tokens", "wte", "word_embeddings", "word_embedding", "tok_embeddings", "token_embedding", "shared"),
    *("embed_in", "embeddings", "embedding", "tokens_embed"),
)
OUTPUTS = (
    *("lm_head", "embed_out", "output", "head", "lm_head.decoder", "predictions.decoder", "decoder"),
    *("output_projection", "vocab_projector", "generator_lm_head", "lm_loss", "pred_layer.proj"),
)
BIASES = (*(f"{name}.bias" for name in OUTPUTS), "predictions.bias", "final_logits_bias")
COLUMNS = ("lm_head.kernel", "predictions.dense.weight")  # which have a column for every token, and may have no row
VOCABULARY, TIED = "vocab_size", "tie_word_embeddings"  # of a configuration
TEXT = (
    "text_config",
    "llm_config",
    "language_config",
    "text_encoder",
    "decoder",
)  # keys of nested configurations of text models


@dataclass(frozen=True)
class Vocabulary:
    """The tensors with a row for every token, of so many rows, and whether inputs and outputs are one matrix.

    columns: those that have a column for every token instead.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    rows: int
    tied: bool
    columns: frozenset[str] = frozenset()

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.inputs, *self.outputs)


def find_vocabulary(
    label: str,
    tensors: Mapping[str, tuple[str, Shape]],
    config: Mapping[str, Any],
    given: Iterable[str] | None = None,
    *,
    tied: bool | None = None,
) -> Vocabulary:
    """The tensors with a row for every token, by their names and the configuration's vocab_size, or as they are given.

    tied: None for what the configuration says. Raises InputError where there are none, or they differ in their rows.
    """
    names = sorted(tensors) if given is None else list(given)
    for name in names:
        if name not in tensors or not tensors[name][1]:
            raise InputError(f"{label}: expected a tensor with rows, got {name!r}{similar(name, list(tensors))}")
    shapes = {name: tensors[name][1] for name in names}
    inputs = {name for name in names if shapes[name] and ends(name, (f"{each}.weight" for each in INPUTS))}
    sizes = values_of(config, VOCABULARY)
    held = {shapes[name][0] for name in inputs or names if shapes[name]}
    # The first vocab_size that an embedding has: other parts of a model, such as codes of audio, may have their own.
    size = next((each for each in sizes if each in held), None)
    if size is None and given is not None:
        size = next((n for n in values_of(config, VOCABULARY) if any(n in shape for shape in shapes.values())), None)
    if given is None and size is not None:
        inputs = {name for name in inputs if shapes[name][0] == size}
    rows = {size} if size is not None else {shapes[name][0] for name in inputs}
    if given is None:
        outputs = [name for name in names if name not in inputs and output_axis(name, shapes[name], rows) is not None]
    else:
        outputs = [name for name in names if name not in inputs]
    if not (inputs or outputs):
        raise InputError(
            f"{label}: expected a tensor with a row for every token, such as model.embed_tokens.weight, got none that "
            "is known by its name; name them: --tensor (tensors=)"
        )
    chosen = [*(name for name in names if name in inputs), *outputs]
    axes = {name: 0 if name in inputs else token_axis(shapes[name], rows) for name in chosen}
    counts = {shapes[name][axes[name]] for name in chosen}
    if len(counts) > 1:
        told = ", ".join(f"{name} {shapes[name][axes[name]]}" for name in chosen)
        raise InputError(
            f"{label}: expected tensors with as many rows, got {told}; name those to grow: --tensor (tensors=)"
        )
    says = next(values_of(config, TIED), None)
    return Vocabulary(
        tuple(name for name in chosen if name in inputs),
        tuple(outputs),
        counts.pop(),
        tied=bool(says) if tied is None else tied,
        columns=frozenset(name for name, axis in axes.items() if axis),
    )


def output_axis(name: str, shape: Shape, rows: Collection[int]) -> int | None:
    """The axis with a place for every token, of a tensor of outputs that is known by its name; None for others."""
    known = (*(f"{each}.weight" for each in OUTPUTS), *BIASES, *COLUMNS)
    if not shape or not ends(name, known):
        return None
    axis = token_axis(shape, rows)
    return axis if shape[axis] in rows else None


def token_axis(shape: Shape, rows: Collection[int]) -> int:
    """The axis with a place for every token: the first, unless only the second of a matrix has as many."""
    return 1 if len(shape) == 2 and shape[0] not in rows and shape[1] in rows else 0


def ends(name: str, parts: Iterable[str]) -> bool:
    """Whether a name ends in one of some parts, at a dot."""
    return any(f".{dotted(name)}".endswith(f".{part}") for part in parts)


def values_of(config: Mapping[str, Any], key: str) -> Iterator[Any]:
    """What a configuration and those within it say under a key: the outermost first, and that of text before others."""
    if key in config:
        yield config[key]
    inner = {name: value for name, value in config.items() if isinstance(value, dict)}
    for name in (*(name for name in TEXT if name in inner), *(name for name in inner if name not in TEXT)):
        yield from values_of(inner[name], key)


def config_with_rows(config: Mapping[str, Any], before: int, rows: int) -> dict[str, Any]:
    """A configuration that says another vocab_size, and so do those within it that said the same."""
    said = {
        key: config_with_rows(value, before, rows) if isinstance(value, dict) else value
        for key, value in config.items()
    }
    return said | {VOCABULARY: rows} if said.get(VOCABULARY) == before else said
