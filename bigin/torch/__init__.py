"""What is torch's alone: models, distributed tensors and memory-mapped tensors. Nothing else in bigin imports torch."""

from __future__ import annotations

from bigin.core.errors import InputError

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ModuleNotFoundError("expected torch, which bigin.torch needs; pip install torch", name="torch") from None

from bigin.torch.checking import check
from bigin.torch.checkpoint import materialize
from bigin.torch.configuration import Configuration
from bigin.torch.defaults import rules_like
from bigin.torch.deferring import deferred
from bigin.torch.distributed import fill_dtensor
from bigin.torch.embeddings import InitFn, fill_quantized, fill_tables, init_fn
from bigin.torch.files import open
from bigin.torch.filling import init_
from bigin.torch.modules import Rule
from bigin.torch.reading import reader
from bigin.torch.replacing import replaces_init
from bigin.torch.signals import ModelSignal, signal
from bigin.torch.storing import plan_dcp, save_dcp
from bigin.torch.tables import load_tables, save_tables

__all__ = [
    "Configuration",
    "InitFn",
    "InputError",
    "ModelSignal",
    "Rule",
    "check",
    "deferred",
    "fill_dtensor",
    "fill_quantized",
    "fill_tables",
    "init_",
    "init_fn",
    "load_tables",
    "materialize",
    "open",
    "plan_dcp",
    "reader",
    "replaces_init",
    "rules_like",
    "save_dcp",
    "save_tables",
    "signal",
]
