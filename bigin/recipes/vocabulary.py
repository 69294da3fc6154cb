"""Which tensors of a model have a row for every token, and what its configuration says of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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
    *("output_projection", "vocab_projector", "generator_lm_head", "lm_loss"),
)
BIASES = (*(f"{name}.bias" for name in OUTPUTS), "predictions.bias")
VOCABULARY, TIED = "vocab_size", "tie_word_embeddings"  # of a configuration


@dataclass(frozen=True)
class Vocabulary:
    """The tensors with a row for every token, of so many rows, and whether inputs and outputs are one matrix."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    rows: int
    tied: bool

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.inputs, *self.outputs)


def find_vocabulary(
    label: str,
    tensors: Mapping[str, tuple[str, Shape]],
    config: Mapping[str, Any],
    given: Iterable[str] | None = None,
    tied: bool | None = None,
) -> Vocabulary:
    """The tensors with a row for every token, by their names and the configuration's vocab_size, or as they are given.

    tied: None for what the configuration says. Raises InputError where there are none, or they differ in their rows.
    """
    names = sorted(tensors) if given is None else list(given)
    for name in names:
        if name not in tensors or not tensors[name][1]:
            raise InputError(f"{label}: expected a tensor with rows, got {name!r}{similar(name, list(tensors))}")
    sizes = set(values_of(config, VOCABULARY))
    fitting = [name for name in names if tensors[name][1] and tensors[name][1][0] in sizes]
    chosen = names if given is not None else fitting or [name for name in names if tensors[name][1]]
    inputs = tuple(name for name in chosen if ends(name, (f"{each}.weight" for each in INPUTS)))
    known = (*(f"{each}.weight" for each in OUTPUTS), *BIASES)
    rows = {tensors[name][1][0] for name in inputs}
    outputs = tuple(
        name
        for name in chosen
        if name not in inputs and (given is not None or (ends(name, known) and tensors[name][1][0] in rows))
    )
    if not (inputs or outputs):
        raise InputError(
            f"{label}: expected a tensor with a row for every token, such as model.embed_tokens.weight, got none that "
            "is known by its name; name them: --tensor (tensors=)"
        )
    rows = {tensors[name][1][0] for name in (*inputs, *outputs)}
    if len(rows) > 1:
        told = ", ".join(f"{name} {tensors[name][1][0]}" for name in (*inputs, *outputs))
        raise InputError(
            f"{label}: expected tensors with as many rows, got {told}; name those to grow: --tensor (tensors=)"
        )
    says = next(values_of(config, TIED), None)
    return Vocabulary(inputs, outputs, rows.pop(), bool(says) if tied is None else tied)


def ends(name: str, parts: Iterable[str]) -> bool:
    """Whether a name ends in one of some parts, at a dot."""
    return any(f".{dotted(name)}".endswith(f".{part}") for part in parts)


def values_of(config: Mapping[str, Any], key: str) -> Iterator[Any]:
    """What a configuration and those within it say under a key, the outermost first."""
    if key in config:
        yield config[key]
    for inner in config.values():
        if isinstance(inner, dict):
            yield from values_of(inner, key)


def config_with_rows(config: Mapping[str, Any], before: int, rows: int) -> dict[str, Any]:
    """A configuration that says another vocab_size, and so do those within it that said the same."""
    said = {
        key: config_with_rows(value, before, rows) if isinstance(value, dict) else value
        for key, value in config.items()
    }
    return said | {VOCABULARY: rows} if said.get(VOCABULARY) == before else said
