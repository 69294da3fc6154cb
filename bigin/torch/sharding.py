"""The tables of TorchRec's sharded modules, as the ShardedTensors that say which part of a table lies where."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

TABLES = "_model_parallel_name_to_sharded_tensor"  # of a sharded module: its tables, by name
CONTAINERS = ("embedding_bags", "embeddings")  # where a module of TorchRec has the parameters of its tables
EVICTED, PARAMETER = "evictions_indices_for_table", "table_weight_param"  # of the method that evicts rows
FRAMES = 8  # callers that are looked at: TorchRec calls its init_fn directly


def is_sharded(tensor: Any) -> bool:
    """Whether a tensor is a ShardedTensor."""
    module = sys.modules.get("torch.distributed._shard.sharded_tensor")  # whoever has one has imported it
    return module is not None and isinstance(tensor, module.ShardedTensor)


def sharded_weights(module: Any) -> dict[str, tuple[Any, Any]]:
    """(the parameter with this rank's part, the table) of each table that a module shards, by the parameter's path.

    A table that every rank holds whole is its own parameter.
    """
    tables = {**vars(module).get(TABLES, {}), **vars(module).get("_model_parallel_name_to_dtensor", {})}
    plan = getattr(module, "module_sharding_plan", {}) if TABLES in vars(module) else {}
    found = {}
    for container in CONTAINERS if plan else ():
        for name, holder in (module._modules.get(container) or {}).items():
            whole = name in plan and plan[name].sharding_type == "data_parallel"
            table = holder.weight if whole else tables.get(name)
            if table is not None:
                found[f"{container}.{name}"] = (holder.weight, table)
    return found


def calling_modules() -> Iterator[Any]:
    """The sharded modules whose methods are calling, the innermost first."""
    frame: FrameType | None = sys._getframe(1)
    for _ in range(FRAMES):
        frame = None if frame is None else frame.f_back
        if frame is None:
            return
        owner = frame.f_locals.get("self")
        inner = getattr(owner, "__dict__", {}).get("_modules", {}).get("_embedding_module")  # of managed collisions
        yield from (module for module in (owner, inner) if TABLES in getattr(module, "__dict__", {}))


def evicted_rows() -> tuple[Any, Any] | None:
    """(the parameter of a table, the numbers of its rows) that managed collisions evict; None where nothing does.

    TorchRec calls init_fn with a copy of the rows; their numbers are in a variable of its method `_evict`.
    """
    frame: FrameType | None = sys._getframe(1)
    for _ in range(FRAMES):
        frame = None if frame is None else frame.f_back
        if frame is None:
            return None
        if frame.f_code.co_name == "_evict" and {EVICTED, PARAMETER} <= frame.f_locals.keys():
            return frame.f_locals[PARAMETER], frame.f_locals[EVICTED]
    return None
