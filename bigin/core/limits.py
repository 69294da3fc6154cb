"""How much a call may use: threads, memory, a device. Made once, at the face, and passed whole."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bigin.core import memory
from bigin.core.errors import InputError
from bigin.core.text import parse_optional_size


@dataclass(frozen=True)
class Limits:
    """Limits of one call.

    max_threads: of the CPU; None for the cores that this process may use. max_memory: bytes of buffers and preparation
    that the call may add to what the process has; None for a quarter of what is available. device: "cpu", "cuda",
    "cuda:1", "auto", or None for the target's own. device_memory: bytes of the device's memory; None for what is free.
    requests: regions of a store on a network that are under way at once; None for as many as it bears.
    """

    max_threads: int | None = None
    max_memory: int | None = None
    device: str | None = None
    device_memory: int | None = None
    requests: int | None = None

    @classmethod
    def parse(
        cls,
        threads: Any = None,
        max_memory: Any = None,
        device: Any = None,
        max_device_memory: Any = None,
        requests: Any = None,
    ) -> Limits:
        """Limits as a caller gives them; raises InputError."""
        threads, requests = _count("thread", threads), _count("request", requests)
        if device is not None and not isinstance(device, str):
            raise InputError(f"expected a device among cpu, cuda, cuda:0, cuda:1 ... and auto, got {device!r}")
        held, on_device = parse_optional_size(max_memory), parse_optional_size(max_device_memory)
        return cls(threads, held, device, on_device, requests)

    @cached_property
    def threads(self) -> int:
        """The number of threads."""
        return memory.threads() if self.max_threads is None else self.max_threads

    @cached_property
    def memory(self) -> int:
        """The bytes of memory. Without a limit this asks the system, once, when it is first needed."""
        return memory.available() // 4 if self.max_memory is None else self.max_memory


def check_flags(**flags: Any) -> None:
    """Raises InputError for an argument, given by its name, that is neither True nor False."""
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise InputError(f"expected {name} to be True or False, got {value!r}")


def _count(what: str, value: Any) -> int | None:
    """A number of threads or requests; raises InputError for anything but an integer above 0."""
    if value is None:
        return None
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise InputError(f"expected {what}s to be an integer, got {value!r}")
    number = int(value.__index__())
    if number < 1:
        raise InputError(f"expected at least 1 {what}, got {number}")
    return number
