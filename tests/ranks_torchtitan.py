"""One rank of two: a model of torchtitan, sharded by FSDP2, takes its first weights from a computed checkpoint.

    python ranks_torchtitan.py RANK WORLD FILE

torchtitan is imported from the folder that `architectures.with_titan` names.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent / "frameworks")]
warnings.simplefilter("ignore")

import architectures  # noqa: E402
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
import torch.distributed.checkpoint as dcp  # noqa: E402
from torch.distributed.device_mesh import init_device_mesh  # noqa: E402
from torch.distributed.fsdp import fully_shard  # noqa: E402

import bigin.torch  # noqa: E402

architectures.with_titan()
NAME = "llama3 debugmodel"


def recorded() -> tuple[Any, Any]:
    with bigin.torch.deferred(seed=42) as init:
        model = architectures.titan_build(NAME)()
    return model, init


def sharded(model: Any) -> Any:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in model.layers.values():
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model.to_empty(device="cpu")


def same(model: Any, expected: dict[str, Any], what: str) -> None:
    count = 0
    for name, held in model.named_parameters():
        if not torch.equal(held.full_tensor(), expected[name]):
            print(f"rank {dist.get_rank()}: {what}: {name} differs", flush=True)
            sys.exit(1)
        count += 1
    print(f"rank {dist.get_rank()}: {what}: {count} parameters are those of one process", flush=True)


def main() -> None:
    from torchtitan.components.checkpoint import ModelWrapper

    rank, world, file = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    dist.init_process_group(
        "gloo", init_method=f"file://{file}", rank=rank, world_size=world, timeout=timedelta(seconds=120)
    )
    whole, init = recorded()
    whole.to_empty(device="cpu")
    bigin.torch.init_(whole, init)
    expected = {name: held.detach() for name, held in whole.named_parameters()}

    model, init = recorded()
    sharded(model)
    states = ModelWrapper(model)  # as torchtitan's checkpointer holds its model
    state_dict = states.state_dict()
    reader = bigin.torch.reader(init)
    reader.check(state_dict)
    dcp.load(state_dict, storage_reader=reader)
    states.load_state_dict(state_dict)
    same(model, expected, "a checkpoint that is computed")

    model, init = recorded()
    bigin.torch.init_(sharded(model), init)
    same(model, expected, "init_")
    for name, held in model.named_buffers():
        assert torch.equal(held, dict(whole.named_buffers())[name]), name

    folder = [tempfile.mkdtemp()] if rank == 0 else [None]
    dist.broadcast_object_list(folder)
    if rank == 0:
        bigin.torch.save_dcp(init, f"{folder[0]}/step-0")
    dist.barrier()
    model, _ = recorded()
    states = ModelWrapper(sharded(model))
    state_dict = states.state_dict()
    dcp.load(state_dict, checkpoint_id=f"{folder[0]}/step-0")
    states.load_state_dict(state_dict)
    same(model, expected, "a seed checkpoint")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
