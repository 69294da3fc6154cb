"""bigin writes the initial values of weights that do not fit in memory.

The same bits whatever the machine, the number of workers, the chunking or the device: a value is a function of the
seed, the name, the method, the global shape and the global index, and of nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from bigin import init as init
    from bigin.api import Report as Report
    from bigin.api import create as create
    from bigin.api import fill as fill
    from bigin.api import fill_flat as fill_flat
    from bigin.embedding import EmbeddingTable as EmbeddingTable
    from bigin.errors import FillError as FillError
    from bigin.errors import InputError as InputError
    from bigin.errors import Interrupted as Interrupted
    from bigin.errors import TargetError as TargetError
    from bigin.methods.gain import calculate_gain as calculate_gain
    from bigin.models import initialize as initialize
    from bigin.models import outline as outline
    from bigin.showing.overview import Overview as Overview
    from bigin.showing.overview import show as show
    from bigin.signals import signal as signal
    from bigin.targets.zarr_dtypes import register_dtypes as register_dtypes
    from bigin.verification import Verification as Verification
    from bigin.verification import verify as verify
    from bigin.virtual_array import VirtualArray as VirtualArray
    from bigin.virtual_array import virtual as virtual

# Imported when first used: `import bigin` compiles nothing and costs a few milliseconds.
_HOMES = {
    "fill": "bigin.api",
    "fill_flat": "bigin.api",
    "create": "bigin.api",
    "Report": "bigin.api",
    "verify": "bigin.verification",
    "Verification": "bigin.verification",
    "show": "bigin.showing.overview",
    "Overview": "bigin.showing.overview",
    "EmbeddingTable": "bigin.embedding",
    "InputError": "bigin.errors",
    "FillError": "bigin.errors",
    "Interrupted": "bigin.errors",
    "TargetError": "bigin.errors",
    "initialize": "bigin.models",
    "outline": "bigin.models",
    "signal": "bigin.signals",
    "calculate_gain": "bigin.methods.gain",
    "register_dtypes": "bigin.targets.zarr_dtypes",
    "virtual": "bigin.virtual_array",
    "VirtualArray": "bigin.virtual_array",
    "init": "",
}
__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name == "torch":  # needs torch, so it is in no list of what there is
        return importlib.import_module("bigin.torch")
    if name not in _HOMES:
        raise AttributeError(f"module 'bigin' has no attribute {name!r}")
    home = _HOMES[name]
    value = getattr(importlib.import_module(home), name) if home else importlib.import_module(f"bigin.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
