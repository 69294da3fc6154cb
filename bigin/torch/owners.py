"""Which parameter or buffer of a model a tensor is, or is a view of."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch

from bigin.core.regions import Shape
from bigin.core.views import View
from bigin.torch.distributed import is_dtensor
from bigin.torch.modules import Member, members
from bigin.torch.partitions import is_gathered, is_partitioned, whole_shape
from bigin.torch.recording.memory import key_of


@dataclass(eq=False)
class Held:
    """A member of the model, and what was drawn into it.

    numbers: of the draw that each view holds. last: the highest of them. seen: the highest that the code has read.
    """

    member: Member
    numbers: dict[View, int] = field(default_factory=dict)
    last: int = 0
    seen: int = 0

    @property
    def local(self) -> Any:
        """The tensor, or the part of it that lies here."""
        return local_of(self.member.tensor)

    @property
    def shape(self) -> Shape:
        """The shape of the whole."""
        return whole_shape(self.member.tensor)

    @property
    def is_away(self) -> bool:
        """Whether ZeRO-3 has cut it, and it is not gathered: the parameter itself is empty."""
        return is_partitioned(self.member.tensor) and not is_gathered(self.member.tensor)

    def is_current(self) -> bool:
        """Whether the module still has this tensor under this name."""
        owner = self.member.owner
        of = owner._buffers if self.member.is_buffer else owner._parameters
        return of.get(self.member.attribute) is self.member.tensor

    def purpose(self, where: View) -> str:
        """The purpose of a draw into some of the elements. Drawn again, they have the same, unless they were read."""
        number = self.numbers.get(where, 0)
        if where.covers(math.prod(self.shape)):
            self.numbers.clear()
            number = self.last = self.seen + 1
        elif number <= self.seen:
            number = self.last = self.last + 1
        self.numbers[where] = number
        return "" if number == 1 else f"draw {number}"


class Owners:
    """The parameters and buffers of a model, by their memory."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._by_memory: dict[int, list[Held]] = {}
        self._by_name: dict[str, Held] = {}
        self._scan()

    def _scan(self) -> None:
        """Look up all members, which may have got other memory."""
        self._by_memory.clear()
        for member in members(self.model):
            if torch.nn.parameter.is_lazy(member.tensor):
                continue
            held = self._by_name.setdefault(member.name, Held(member))
            held.member = member
            if has_memory(held.local):
                self._by_memory.setdefault(key_of(held.local), []).append(held)

    def find(self, tensor: Any, *, scan: bool = True) -> Held | None:
        """The member that a tensor is, or is a view of."""
        local = local_of(tensor)
        if not has_memory(local):
            return None
        for held in self._by_memory.get(key_of(local), ()):
            if held.is_current() and inside(local, held.local):
                return held
        if not scan:
            return None
        self._scan()
        return self.find(tensor, scan=False)


def local_of(tensor: Any) -> Any:
    """The part of a DTensor that lies here; any other tensor itself."""
    return tensor._local_tensor if is_dtensor(tensor) else tensor


def has_memory(tensor: Any) -> bool:
    """Whether a tensor is a plain one, with memory of its own."""
    return type(tensor) in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)


def inside(view: torch.Tensor, whole: torch.Tensor) -> bool:
    """Whether a view of the same memory lies within a tensor."""
    (first, last), (start, stop) = span(view), span(whole)
    return start <= first and last <= stop


def span(tensor: torch.Tensor) -> tuple[int, int]:
    """The bytes of its memory between which a tensor lies."""
    first = tensor.storage_offset() * tensor.element_size()
    if not tensor.numel():
        return first, first
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return first, first + (reach + 1) * tensor.element_size()
