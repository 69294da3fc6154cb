"""A model whose own code initializes it, without making any value: what it does is recorded, and made later."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary, ref

import numpy as np
import torch
from torch import nn
from torch.nn.modules import module as registration

from bigin.core.errors import InputError
from bigin.core.generator import parse_seed
from bigin.core.html import card, listing
from bigin.core.text import counted, similar
from bigin.core.warning import warn
from bigin.fillers.families import family
from bigin.spec.fused import FusedSpec
from bigin.spec.layered import LayeredSpec
from bigin.spec.model import TensorValues
from bigin.spec.tensor import TensorSpec
from bigin.torch.filling import in_dtype
from bigin.torch.modules import Assigning, Member, Rules, first_rule, members, naming, parse_rules, shape_of, specify_by
from bigin.torch.recording.functions import replaced
from bigin.torch.recording.lowering import advising, as_drawn, lower, visible
from bigin.torch.recording.memory import key_of
from bigin.torch.recording.recorder import Factories, Recorder
from bigin.torch.recording.values import Draw, Write

REMEDY = "give a rule for it: bigin.torch.deferred(rules={...})"
SHOWN, FIRST = 200, 10  # rows of a printed table, and of one in a notebook


class deferred(Assigning):  # noqa: N801 (a context manager, as torch.no_grad is)
    """Run a model's own code without computing values, and record what it does to each parameter and buffer.

    Within the context every new tensor is on the meta device, which has shapes and no values. Functions of
    torch.nn.init, random numbers, fills, copies and arithmetic are recorded, on whole tensors and on views of them. The
    values follow later: `bigin.torch.materialize` writes them to a checkpoint, `bigin.torch.init_` makes them in a
    model that has memory by then, however it is sharded. A draw's stream comes from the name of the first parameter
    that holds it, in the model as it was built, and for a second draw into the same parameter from a purpose as well:
    nothing else decides a value. Tensors that no random number reaches are computed as the model's code computes them.

    Args:
        seed: an integer from 0 to 2^64 - 1.
        rules: rules as in bigin.torch.init_, for parameters whose values no method makes, or that are to have other
            values than the model's code makes.

    Example:
        >>> with bigin.torch.deferred(seed=42) as init:
        ...     model = torch.nn.Linear(8, 4)
        >>> print(init)
        tensor  shape        values
        weight  4x8 float32  kaiming_uniform(a=2.23606797749979): U[-0.353553, 0.353553)
        bias    4 float32    uniform(a=-0.35355339059327373, b=0.35355339059327373): U[-0.353553, 0.353553)
        2 tensors
        >>> bigin.torch.materialize(model, "model.safetensors", init).nbytes
        144
    """

    def __init__(self, seed: int = 0, *, rules: Rules | None = None) -> None:
        self.seed = parse_seed(seed)
        self._rules = parse_rules(rules or {})
        self._recorder = Recorder()
        self._recorder.owner = self._owner
        self._stack = ExitStack()
        self._modules: list[ref[nn.Module]] = []
        self._built: WeakKeyDictionary[nn.Module, dict[str, Recorded]] = WeakKeyDictionary()
        self._recorded: dict[str, Recorded] = {}  # by name, of the largest model
        self._further: dict[str, Recorded] = {}  # by the further names of tied parameters
        self._hooked: dict[str, Recorded] = {}  # what hooks of state_dict() make, by names that are no parameter's
        self._replaced: set[str] = set()  # names that state_dict() has not, as its hooks take them away

    def __enter__(self) -> deferred:
        stack, recorder = self._stack, self._recorder
        self._generators = generator_states()
        stack.enter_context(collected(self._modules))
        stack.enter_context(replaced(recorder.method, lambda tensor: tensor.is_meta or recorder.memory.holds(tensor)))
        stack.enter_context(recorder)
        stack.enter_context(Factories(recorder))
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self._stack.close()
        if kind is None:
            self._keep()
            if generator_states() != self._generators:
                warn(
                    "the model's code drew from Python's or numpy's random generator, which is not recorded: seed it, "
                    "as what follows from it is the same only where its numbers are",
                    UserWarning,
                )
        self._modules.clear()

    def _owner(self, tensor: torch.Tensor) -> str:
        """What a tensor is in the modules that were built so far, in words; empty where it is in none."""
        memory = key_of(tensor)
        for module in filter(None, (reference() for reference in self._modules)):
            for name, held in [*module._parameters.items(), *module._buffers.items()]:
                if held is not None and not nn.parameter.is_lazy(held) and key_of(held) == memory:
                    return f"{name} of a {type(module).__name__}, "
        return ""

    def _keep(self) -> None:
        """Keep what was written into the parameters and buffers of every model, by its modules and by its names."""
        alive = [module for reference in self._modules if (module := reference()) is not None]
        built = list({id(module): module for module in alive}.values())
        inner = {id(child) for module in built for child in module.children()}
        roots = [(root, [*members(root)]) for root in built if id(root) not in inner]
        for number, (root, kept) in enumerate(sorted(roots, key=lambda pair: len(pair[1]), reverse=True), 1):
            lazy = nn.parameter.is_lazy
            found = {id(m.tensor): self._keep_member(m, number) for m in kept if not lazy(m.tensor)}
            for path, owner in root.named_modules():  # under every name: to_empty makes tied parameters several
                for attribute, tensor in [*owner._parameters.items(), *owner._buffers.items()]:
                    if id(tensor) in found:
                        self._built.setdefault(owner, {})[attribute] = found[id(tensor)]
                        self._further.setdefault(f"{path}.{attribute}".lstrip("."), found[id(tensor)])
            if number == 1:
                self._keep_hooked(root)

    def _keep_hooked(self, root: nn.Module) -> None:
        """Keep what hooks make of a model's state_dict(), such as the three parts of a fused matrix."""
        if not any(module._state_dict_hooks for module in root.modules()):
            return
        try:
            with self._recorder, torch.no_grad():
                held = root.state_dict()
        except Exception:  # whatever a hook does with tensors that have no values
            return
        memory, saved = self._recorder.memory, {name for name, each in self._known().items() if each.saved}
        for name in held.keys() - saved:
            if isinstance(held[name], torch.Tensor):
                self._hooked[name] = Recorded(name, held[name], visible(memory, held[name]))
        self._replaced = saved - held.keys()

    def _known(self) -> dict[str, Recorded]:
        """What was recorded, by all names of it."""
        return self._recorded | self._further

    def _keep_member(self, member: Member, number: int) -> Recorded:
        """Keep what one member holds, and name its draws. A model after the first has a purpose of its own."""
        ruled = member if first_rule(self._rules, member) is not None else None
        recorded = Recorded(member.name, member.tensor, visible(self._recorder.memory, member.tensor), ruled)
        recorded.saved = not member.is_buffer or member.attribute not in member.owner._non_persistent_buffers_set
        again = member.name in self._recorded
        if not again:
            self._recorded[member.name] = recorded
        count = 0
        for write in recorded.writes:
            if isinstance(write.value, Draw) and write.value.token.stream is None:
                count += 1
                purposes = [f"model {number}"] * again + [f"draw {count}"] * (count > 1)
                write.value.token.stream = (self.seed, member.name, "/".join(purposes))
        return recorded

    def specs(self, module: Any, *, dtype: Any = None) -> dict[str, TensorValues]:
        """Return the specification of each parameter and buffer of a model.

        Args:
            module: a model that was built in the context, a part of it, or a copy of either.
            dtype: the dtype of all float parameters and buffers, instead of their own.

        Returns:
            A mapping from full names to specifications, in the order of the module.

        Raises:
            InputError: a parameter was not built in the context, or no method makes its values.

        Example:
            >>> with bigin.torch.deferred(seed=42, rules={"bias": "zeros"}) as init:
            ...     model = torch.nn.Linear(8, 4)
            >>> print(init.specs(model)["bias"])
            zeros(), seed 42, name bias, 4 float32
        """
        return {member.name: spec for member, spec in self.assigned(list(members(module)), dtype)}

    def assigned(self, chosen: list[Member], dtype: Any = None) -> list[tuple[Member, TensorValues]]:
        """Return members of a model with their specifications; `specs` returns the same by name.

        Args:
            chosen: parameters and buffers with their names and owners.
            dtype: as in specs.

        Returns:
            Pairs of a member and its specification.

        Raises:
            InputError: as in specs.

        Example:
            >>> with bigin.torch.deferred() as init:
            ...     model = torch.nn.Linear(8, 4)
            >>> init.assigned([])
            []
        """
        assigned = []
        for member in chosen:
            with naming(member):
                assigned.append((member, self._spec(member, dtype)))
        return assigned

    def _spec(self, member: Member, dtype: Any) -> TensorValues:
        own = member.tensor.dtype
        wanted = dtype if dtype is not None and own.is_floating_point else own
        number = first_rule(self._rules, member)
        told = None if number is None else specify_by(self._rules, number, member, self.seed)
        if told is not None:
            return in_dtype(told, str(wanted).removeprefix("torch."))
        recorded = (
            self._built.get(member.owner, {}).get(member.attribute)
            or self._recorded.get(member.name)
            or self._further.get(member.name)
        )
        if recorded is None:
            raise InputError("expected a model that was built in this context, got a parameter that was not")
        if shape_of(member) != tuple(recorded.tensor.shape):
            raise InputError(f"expected shape {tuple(recorded.tensor.shape)}, as it was built, got {shape_of(member)}")
        with advising(REMEDY):
            return self._lowered(recorded, wanted)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the parameters and buffers that were recorded, on the meta device.

        Returns:
            Tensors by full name; a tied one under each of its names, and what hooks of state_dict() make of them under
            theirs. Of several models, those of the largest.

        Example:
            >>> with bigin.torch.deferred() as init:
            ...     model = torch.nn.Linear(8, 4)
            >>> list(init.tensors())
            ['weight', 'bias']
        """
        return {name: recorded.tensor for name, recorded in (self._known() | self._hooked).items()}

    def spec(self, name: str, dtype: Any = None) -> TensorValues:
        """Return the specification of one of `tensors`.

        Args:
            name: its full name.
            dtype: another dtype than its own.

        Returns:
            The specification.

        Raises:
            InputError: no such tensor was recorded, or no method makes its values.

        Example:
            >>> with bigin.torch.deferred(seed=42) as init:
            ...     model = torch.nn.LayerNorm(8)
            >>> print(init.spec("weight"))
            ones(), seed 42, name weight, 8 float32
        """
        recorded = self._known().get(name) or self._hooked.get(name)
        if recorded is None:
            raise InputError(f"{name}: expected a tensor that was recorded, got none{similar(name, self.tensors())}")
        wanted = str(recorded.tensor.dtype if dtype is None else dtype).removeprefix("torch.")
        if recorded.ruled is not None:
            number = first_rule(self._rules, recorded.ruled)
            told = None if number is None else specify_by(self._rules, number, recorded.ruled, self.seed)
            if told is not None:
                return in_dtype(told, wanted)
        with naming(name):
            if name in self._hooked:
                tokens = tokens_of(recorded)
                for known in self._known().values():
                    if tokens & tokens_of(known):
                        check_order(known.writes, tuple(known.tensor.shape))
            with advising(REMEDY):
                return self._lowered(recorded, wanted, exact=name in self._hooked)

    def aliases(self) -> dict[str, str]:
        """Return the other names of tied tensors.

        Returns:
            A mapping from each other name to the first name.

        Example:
            >>> with bigin.torch.deferred() as init:
            ...     model = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2), "b": torch.nn.Linear(2, 2)})
            ...     model.b.weight = model.a.weight
            >>> init.aliases()
            {'b.weight': 'a.weight'}
        """
        first = {id(recorded): name for name, recorded in self._recorded.items()}
        further = self._further.items()
        return {name: first[id(held)] for name, held in further if name not in self._recorded and id(held) in first}

    def unsaved(self) -> set[str]:
        """Return the names that are in no state dict of the model: buffers that are not saved, and tensors of other
        models.

        Returns:
            A set of full names.

        Example:
            >>> with bigin.torch.deferred() as init:
            ...     model = torch.nn.Module()
            ...     model.register_buffer("rotary", torch.ones(3), persistent=False)
            >>> init.unsaved()
            {'rotary'}
        """
        mine = {id(recorded) for recorded in self._recorded.values() if recorded.saved}
        return {name for name, held in self._known().items() if id(held) not in mine} | self._replaced

    def converted(self, module: Any, convert: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, TensorValues]:
        """Return the specifications of what a function makes of a model's tensors, such as parts of stacked tensors.

        Args:
            module: a model that was built in the context.
            convert: from names and tensors, as state_dict() has them, to others. What it does is recorded.

        Returns:
            Specifications by the new names. Values are those of `specs`: parts of a draw are parts of its stream.

        Raises:
            InputError: no method says what was made.

        Example:
            >>> with bigin.torch.deferred() as init:
            ...     model = torch.nn.Linear(8, 4, bias=False)
            >>> halves = init.converted(model, lambda held: dict(zip("ab", held["weight"].chunk(2), strict=True)))
            >>> halves["b"].shape
            (2, 8)
        """
        with self._recorder, torch.no_grad():
            made = convert(dict(module.state_dict()))
        for name, tensor in module.state_dict().items():
            with naming(name):
                check_order(visible(self._recorder.memory, tensor), tuple(tensor.shape))
        specs: dict[str, TensorValues] = {}
        for name, tensor in made.items():
            recorded = Recorded(name, tensor, visible(self._recorder.memory, tensor))
            try:
                specs[name] = self._lowered(recorded, tensor.dtype, exact=True)
            except InputError as error:
                raise InputError(f"{name}: {error}") from None
        return specs

    def _lowered(self, recorded: Recorded, dtype: Any, *, exact: bool = False) -> TensorValues:
        """The specification of what was recorded of one tensor; exact as in lower."""

        def stream(draw: Draw | None) -> tuple[str, str]:
            if draw is None or draw.token.stream is None:
                return recorded.name, ""
            return draw.token.stream[1:]

        return lower(recorded.writes, recorded.tensor, dtype, self.seed, stream, exact=exact)

    def _repr_html_(self) -> str:
        facts = {"tensors": f"{len(self._recorded):,}", "seed": self.seed}
        rows, more = self._rows(FIRST), len(self._recorded) - FIRST
        if more > 0:
            rows.append((f"... {more:,} more", "", ""))
        return card("recording of a model's initialization", facts, listing(("tensor", "shape", "values"), rows))

    def _rows(self, count: int) -> list[tuple[str, str, str]]:
        """The first tensors: name, shape and dtype, values."""
        rows = []
        for name, recorded in list(self._recorded.items())[:count]:
            dtype = str(recorded.tensor.dtype).removeprefix("torch.")
            shape = "x".join(map(str, recorded.tensor.shape)) or "scalar"
            try:
                values = in_words(self._lowered(recorded, recorded.tensor.dtype))
            except InputError as error:
                values = f"error: {error}"
            rows.append((name, f"{shape} {dtype}", values))
        return rows

    def __str__(self) -> str:
        """A table of all that was recorded."""
        rows = [("tensor", "shape", "values"), *self._rows(SHOWN)]
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        lines = [f"{name:<{widths[0]}}  {shape:<{widths[1]}}  {values}".rstrip() for name, shape, values in rows]
        more = len(self._recorded) - SHOWN
        return "\n".join([*lines, *([f"and {more} more"] if more > 0 else []), counted(len(self._recorded), "tensor")])


def check_order(writes: list[Write], shape: tuple[int, ...]) -> None:
    """Raise InputError where a part of a tensor's draws is no part of their streams."""
    if not all(as_drawn(write, shape) for write in writes):
        raise InputError("expected a draw that lies in it as it was drawn, got one in another order")


def tokens_of(recorded: Recorded) -> set[int]:
    """The draws of which a tensor has values."""
    return {id(write.value.token) for write in recorded.writes if isinstance(write.value, Draw)}


class Recorded:
    """What was written into one tensor, which has this name in its model."""

    def __init__(self, name: str, tensor: torch.Tensor, writes: list[Write], ruled: Member | None = None) -> None:
        self.name, self.tensor, self.writes = name, tensor, writes
        self.ruled = ruled  # the parameter, where a rule is for it
        self.saved = True  # whether a state dict has it


def in_words(spec: TensorValues) -> str:
    """A tensor's values in a few words: the method, and its distribution."""
    if isinstance(spec, TensorSpec):
        formula = family(spec.distribution).formula(spec.distribution)
        shared = f" from stream {spec.purpose}" if spec.purpose else ""
        return f"{spec.call}: {formula}{shared}"
    if isinstance(spec, LayeredSpec | FusedSpec):
        return f"{counted(len(spec.parts), 'layer')}: " + "; ".join(map(in_words, spec.parts))
    return "values as the model computes them"


@contextmanager
def collected(modules: list[ref[nn.Module]]) -> Iterator[None]:
    """Collects modules that register something while it is open."""

    def hook(module: nn.Module, *_: Any) -> None:
        modules.append(ref(module))

    def submodule(module: nn.Module, name: str, child: nn.Module) -> None:
        modules.extend(ref(each) for each in (module, child) if each is not None)

    handles = [
        registration.register_module_parameter_registration_hook(hook),
        registration.register_module_buffer_registration_hook(hook),
        registration.register_module_module_registration_hook(submodule),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def generator_states() -> tuple[Any, ...]:
    """The states of Python's and of numpy's random generators."""
    kind, keys, *rest = np.random.get_state()
    return random.getstate(), kind, keys.tobytes() if hasattr(keys, "tobytes") else keys, *rest
