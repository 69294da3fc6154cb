"""A checkpoint of torch.distributed that is killed at every call that changes a file, and written again.

    python kills_dcp.py FOLDER

Each attempt is a child of this process, which has loaded everything. Prints how many were killed; ends with 1 where
what a killed one has left loads other values, or where the next one does not end with the bytes of a whole one.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch import nn

import bigin
import bigin.torch

CALLS = ("pwrite", "rename", "replace", "unlink", "fsync", "fdatasync")
warnings.simplefilter("ignore")


def child(work: Callable[[], bool]) -> int:
    """The exit code of a process that does some work: 0 where it was right, 9 where it was killed."""
    pid = os.fork()
    if not pid:
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_at(number: int, work: Callable[[], bool]) -> bool:
    """Does the work up to a call."""
    left = number

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def counting(*arguments: object, **named: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                os._exit(9)
            return call(*arguments, **named)

        return counting

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    return work()


def held(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def main(folder: Path) -> None:
    with bigin.torch.deferred(seed=3) as init:
        model = nn.Sequential(nn.Linear(30, 40), nn.Linear(40, 30, dtype=torch.bfloat16))
    others = bigin.torch.deferred(seed=4)
    with others:
        older = nn.Sequential(nn.Linear(30, 40), nn.Linear(40, 30, dtype=torch.bfloat16))
    assert len(list(model.parameters())) == len(list(older.parameters()))

    def write(out: Path, *, overwrite: bool = False) -> bool:
        return bigin.torch.save_dcp(init, out, max_shard_size=3000, overwrite=overwrite, threads=1).nbytes >= 0

    def loads(out: Path, *seeds: object) -> bool:
        """Nothing, where .metadata is missing; else the values of one of the recordings."""
        found = {name: torch.zeros(tensor.shape, dtype=tensor.dtype) for name, tensor in init.tensors().items()}
        if not (out / ".metadata").exists():
            with contextlib.suppress(BaseException):
                dcp.load(found, checkpoint_id=out)
                return False
            return True
        dcp.load(found, checkpoint_id=out)
        for source in seeds:
            made = {name: torch.zeros_like(tensor) for name, tensor in found.items()}
            dcp.load(made, storage_reader=bigin.torch.reader(source))
            if all(torch.equal(made[name], found[name]) for name in found):
                return True
        return False

    whole = folder / "whole"
    write(whole)
    expected = held(whole)
    kills = 0
    for overwrite in (False, True):
        number = 0
        while True:
            out = folder / f"{overwrite}-{number}"
            if overwrite:
                bigin.torch.save_dcp(others, out, max_shard_size=4000, threads=1)
            code = child(lambda n=number, o=out, w=overwrite: killed_at(n, lambda: write(o, overwrite=w)))
            if code == 0:
                break
            kills += code == 9
            seeds = (init, others) if overwrite else (init,)
            assert child(lambda o=out, s=seeds: loads(o, *s)) == 0, out
            assert child(lambda o=out, w=overwrite: write(o, overwrite=w)) == 0, out
            assert held(out) == expected, out
            number += 1
    print(kills)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
