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
    from bigin import torch as torch
    from bigin.api.attesting import Attestation as Attestation
    from bigin.api.attesting import attest as attest
    from bigin.api.checking import check as check
    from bigin.api.checking import show_model as show_model
    from bigin.api.filling import create as create
    from bigin.api.filling import fill as fill
    from bigin.api.filling import fill_flat as fill_flat
    from bigin.api.keyed import KeyedTable as KeyedTable
    from bigin.api.models import initialize as initialize
    from bigin.api.models import initialize_dummy as initialize_dummy
    from bigin.api.models import outline as outline
    from bigin.api.models import outline_dummy as outline_dummy
    from bigin.api.plans import Plan as Plan
    from bigin.api.plans import plan as plan
    from bigin.api.plans import plan_dummy as plan_dummy
    from bigin.api.plans import plan_grow as plan_grow
    from bigin.api.plans import plan_initialize as plan_initialize
    from bigin.api.plans import plan_show as plan_show
    from bigin.api.plans import plan_verify as plan_verify
    from bigin.api.previewing import preview as preview
    from bigin.api.serving import serve as serve
    from bigin.api.showing import show as show
    from bigin.api.signals import signal as signal
    from bigin.api.storage import storage_options as storage_options
    from bigin.api.surgery import grow_vocabulary as grow_vocabulary
    from bigin.api.tables import EmbeddingTable as EmbeddingTable
    from bigin.api.verifying import verify as verify
    from bigin.api.virtual import virtual as virtual
    from bigin.api.virtual_array import VirtualArray as VirtualArray
    from bigin.api.virtual_store import virtual_store as virtual_store
    from bigin.core.errors import CacheWarning as CacheWarning
    from bigin.core.errors import DamagedError as DamagedError
    from bigin.core.errors import ExistsError as ExistsError
    from bigin.core.errors import FillError as FillError
    from bigin.core.errors import InputError as InputError
    from bigin.core.errors import Interrupted as Interrupted
    from bigin.core.errors import LockedError as LockedError
    from bigin.core.errors import LockWarning as LockWarning
    from bigin.core.errors import NotFoundError as NotFoundError
    from bigin.core.errors import RecordError as RecordError
    from bigin.core.errors import SourceError as SourceError
    from bigin.core.errors import StreamWarning as StreamWarning
    from bigin.core.errors import TableWarning as TableWarning
    from bigin.core.errors import TargetError as TargetError
    from bigin.core.generator import Generator as Generator
    from bigin.core.generator import manual_seed as manual_seed
    from bigin.inspect.model_check import ModelCheck as ModelCheck
    from bigin.inspect.overview import Overview as Overview
    from bigin.inspect.progress import ProgressBar as ProgressBar
    from bigin.jobs.changes import RowSet as RowSet
    from bigin.jobs.changes import TableStatistics as TableStatistics
    from bigin.jobs.changes import TableVerification as TableVerification
    from bigin.jobs.compare import Verification as Verification
    from bigin.jobs.report import Report as Report
    from bigin.methods.gain import calculate_gain as calculate_gain
    from bigin.targets.zarr.dtypes import register_dtypes as register_dtypes
    from bigin.targets.zarr.http import Server as Server
    from bigin.targets.zarr.virtual import VirtualStore as VirtualStore

# Imported when first used: `import bigin` compiles nothing and costs a few milliseconds.
_HOMES = {
    "fill": "bigin.api.filling",
    "fill_flat": "bigin.api.filling",
    "create": "bigin.api.filling",
    "Report": "bigin.jobs.report",
    "storage_options": "bigin.api.storage",
    "grow_vocabulary": "bigin.api.surgery",
    "verify": "bigin.api.verifying",
    "check": "bigin.api.checking",
    "show_model": "bigin.api.checking",
    "attest": "bigin.api.attesting",
    "Attestation": "bigin.api.attesting",
    "ModelCheck": "bigin.inspect.model_check",
    "Verification": "bigin.jobs.compare",
    "RowSet": "bigin.jobs.changes",
    "TableStatistics": "bigin.jobs.changes",
    "TableVerification": "bigin.jobs.changes",
    "show": "bigin.api.showing",
    "Overview": "bigin.inspect.overview",
    "ProgressBar": "bigin.inspect.progress",
    "EmbeddingTable": "bigin.api.tables",
    "KeyedTable": "bigin.api.keyed",
    "InputError": "bigin.core.errors",
    "StreamWarning": "bigin.core.errors",
    "TableWarning": "bigin.core.errors",
    "CacheWarning": "bigin.core.errors",
    "FillError": "bigin.core.errors",
    "DamagedError": "bigin.core.errors",
    "ExistsError": "bigin.core.errors",
    "LockedError": "bigin.core.errors",
    "LockWarning": "bigin.core.errors",
    "NotFoundError": "bigin.core.errors",
    "RecordError": "bigin.core.errors",
    "SourceError": "bigin.core.errors",
    "Interrupted": "bigin.core.errors",
    "TargetError": "bigin.core.errors",
    "initialize": "bigin.api.models",
    "initialize_dummy": "bigin.api.models",
    "outline": "bigin.api.models",
    "outline_dummy": "bigin.api.models",
    "Plan": "bigin.api.plans",
    "plan": "bigin.api.plans",
    "plan_grow": "bigin.api.plans",
    "plan_dummy": "bigin.api.plans",
    "plan_initialize": "bigin.api.plans",
    "plan_show": "bigin.api.plans",
    "preview": "bigin.api.previewing",
    "plan_verify": "bigin.api.plans",
    "signal": "bigin.api.signals",
    "calculate_gain": "bigin.methods.gain",
    "register_dtypes": "bigin.targets.zarr.dtypes",
    "virtual": "bigin.api.virtual",
    "VirtualArray": "bigin.api.virtual_array",
    "virtual_store": "bigin.api.virtual_store",
    "VirtualStore": "bigin.targets.zarr.virtual",
    "serve": "bigin.api.serving",
    "Server": "bigin.targets.zarr.http",
    "Generator": "bigin.core.generator",
    "manual_seed": "bigin.core.generator",
    "init": "",
}
__all__ = [*_HOMES]


if not TYPE_CHECKING:  # else a checker would take every name for one that there is

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
