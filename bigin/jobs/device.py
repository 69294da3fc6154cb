"""Where a fill's values are made: on the CPU, or on a CUDA device if that is asked for or faster."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bigin.core.errors import InputError
from bigin.core.limits import Limits
from bigin.core.text import size_text
from bigin.fillers.filler import Filler
from bigin.targets.device import DeviceTarget
from bigin.targets.target import Target

if TYPE_CHECKING:
    from bigin.fillers.cuda.placed import OnDevice

# For `auto`: operations per second of a core of the CPU (README); bytes per second from a device to the host over PCI
# Express, operations per second of a device, and the seconds until a device has started. An H200 copies 50 GB/s to
# pinned memory and makes 6.5e12 operations; these are lower, for other devices.
PRODUCT = 150e9
COPIED, DEVICE_PRODUCT, STARTED = 20e9, 5e12, 4.0


@dataclass(frozen=True)
class Choice:
    """The filler to use, within which limits, and where it makes the values, in words."""

    filler: Filler
    limits: Limits
    device: str


def choose(target: Target, filler: Filler, limits: Limits) -> Choice:
    """The filler for the device of the limits: "cpu", "cuda", "cuda:1", "auto", or None for the target's own.

    Raises InputError if the device is not available, or cannot reach the target.
    """
    device = limits.device
    here = isinstance(target, DeviceTarget)
    if device is None and not here:
        return Choice(filler, limits, "cpu")
    number = parse_device(device, target)
    if number is None:
        if here:
            raise InputError(f"{target.label}: expected device cuda, which it lies on, got cpu; leave the device out")
        return Choice(filler, limits, "cpu")
    if device == "auto" and not here and (why := no_gain(target, filler, limits.threads)):
        return Choice(filler, limits, f"cpu ({why})")
    try:
        placed = placed_on(filler, target.dtype, number)
        # At least two workers, so that one writes while the other's values are made and copied.
        workers = 1 if here else max(2, limits.threads)
        workers = within_device(placed, target, workers, limits.device_memory)
    except InputError as error:
        if device != "auto" or here:
            raise
        return Choice(filler, limits, f"cpu ({error})")
    return Choice(placed, replace(limits, max_threads=workers), f"cuda:{number} ({placed.name})")


def parse_device(device: str | None, target: Target | None = None) -> int | None:
    """The number of a CUDA device; None for the CPU."""
    own = target.array.device if isinstance(target, DeviceTarget) else None
    if device in (None, "auto"):
        return own if own is not None else (0 if device == "auto" else None)
    match = re.fullmatch(r"cpu|cuda(?::(\d+))?", str(device))
    if match is None:
        raise InputError(f"expected a device among cpu, cuda, cuda:0, cuda:1 ... and auto, got {device!r}")
    if device == "cpu":
        return None
    number = int(match[1]) if match[1] else own or 0
    if own is not None and number != own:
        assert target is not None
        raise InputError(f"{target.label}: expected the device that it lies on, got {device}; leave the device out")
    return number


def placed_on(filler: Filler, dtype: np.dtype[Any], number: int) -> OnDevice:
    """The same values made on a device; raises InputError where there is none that works."""
    require_device(number)
    from bigin.fillers.cuda.placed import OnDevice

    try:
        placed = OnDevice(filler, dtype, number)
        placed.try_out()
    except InputError:
        raise
    except Exception as error:  # an old driver, or a device that no longer answers
        text = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"expected a CUDA device that runs bigin's kernels, got {text}; use device cpu") from error
    return placed


def require_device(number: int) -> None:
    """Raises InputError where there is no such device that works."""
    if importlib.util.find_spec("numba_cuda") is None:
        raise InputError("expected the package numba-cuda, got none; pip install 'bigin[cuda13]' or 'bigin[cuda12]'")
    from bigin.kernels.cuda import device as cuda_device

    if (problem := cuda_device.problem()) is not None:
        raise InputError(f"expected a CUDA device, got none that works: {problem}; use device cpu")
    if number >= cuda_device.count():
        raise InputError(f"expected a CUDA device from 0 to {cuda_device.count() - 1}, got {number}")


def within_device(placed: OnDevice, target: Target, workers: int, limit: int | None) -> int:
    """How many workers the device's memory allows; raises InputError where it does not allow one."""
    block = 0 if isinstance(target, DeviceTarget) else _largest(target, placed)
    most = placed.free_memory() if limit is None else min(placed.free_memory(), limit)
    while workers > 1 and placed.device_memory(workers, block) > most:
        workers -= 1
    require_device_memory(placed, placed.device_memory(workers, block), limit)
    return workers


def require_device_memory(placed: OnDevice, need: int, limit: int | None) -> None:
    """Raises InputError if the device has less free memory, or the limits allow less."""
    free = placed.free_memory()
    most = free if limit is None else min(free, limit)
    if need > most:
        bound = (
            f"{size_text(most)} that are free"
            if most == free
            else f"the {size_text(most)} of --max-device-memory (max_device_memory=)"
        )
        raise InputError(
            f'expected {size_text(need)} of the device\'s memory, got {bound}; use --device cpu (device="cpu")'
        )


def _largest(target: Target, filler: Filler) -> int:
    """Bytes in a region of the target's grid."""
    return int(np.prod(target.grid(filler.region_bytes).block, dtype=object)) * target.dtype.itemsize


def no_gain(target: Target, filler: Filler, threads: int) -> str | None:
    """Why a device would not be faster; None if it would."""
    on_cpu, on_device = seconds(filler, target.nbytes, threads)
    if on_device < on_cpu:
        return None
    return f"CUDA would not pay: about {on_cpu:.1f} s of work here, {on_device:.1f} s there"


def seconds(filler: Filler, nbytes: int, threads: int) -> tuple[float, float]:
    """The estimated seconds to make the values on the CPU and on a device; writing them is not included."""
    cost = filler.cost
    on_cpu = (nbytes / cost.rate + cost.products / PRODUCT) / threads
    return on_cpu, STARTED + nbytes / COPIED + cost.products / DEVICE_PRODUCT
