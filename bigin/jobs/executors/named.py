"""Executors as users give them: an object, or a string such as dask://scheduler:8786, processes:8 or mpi."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any

from bigin.core import memory
from bigin.core.errors import InputError
from bigin.core.limits import Limits

EXPECTED = "processes:8, dask://HOST:PORT or mpi"


def adapted(executor: Any) -> Any:
    """Something with submit(function, *arguments) -> Future, from an executor, a dask Client or the module ray.

    Raises InputError for anything else.
    """
    if isinstance(executor, ModuleType) and executor.__name__ == "ray":
        from bigin.jobs.executors.ray import RayExecutor

        return RayExecutor(executor)
    if hasattr(executor, "get_executor"):
        from bigin.jobs.executors.dask import DaskExecutor

        return DaskExecutor(executor)
    if hasattr(executor, "submit"):
        return executor
    raise InputError(
        "expected an executor with submit(function, *arguments), such as a ProcessPoolExecutor of concurrent.futures, "
        f"a dask Client, the module ray, or a text such as {EXPECTED}, got {type(executor).__name__}"
    )


def check_executor(executor: Any) -> None:
    """Raises InputError for what `running` would refuse."""
    if not isinstance(executor, str):
        adapted(executor)
    elif executor != "mpi" and not executor.startswith("dask://"):
        processes(executor)


def processes(text: str) -> int:
    """The number in processes:8; raises InputError."""
    match = re.fullmatch(r"processes:([1-9][0-9]{0,4})", text)
    if match is None:
        raise InputError(f"expected an executor such as {EXPECTED}, got {text!r}")
    return int(match[1])


@contextmanager
def running(executor: Any) -> Iterator[Any]:
    """The executor for as long as it is needed. One that a string names is started here, and ended."""
    if not isinstance(executor, str):
        yield adapted(executor)
    elif executor == "mpi":
        with _mpi() as others:
            yield others
    elif executor.startswith("dask://"):
        distributed = _import("distributed", "bigin[cluster]")
        address = "tcp://" + executor.removeprefix("dask://")
        try:
            client = distributed.Client(address, timeout="20s", set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"{executor}: expected a dask scheduler there, got none: {' '.join(str(error).split())[:200]}; start "
                "one with `dask scheduler`"
            ) from None
        with client:
            yield adapted(client)
    else:
        from bigin.jobs.executors.processes import Processes  # multiprocessing takes a while to import

        pool = Processes(processes(executor))
        try:
            yield pool
        finally:
            pool.shutdown()


@contextmanager
def _mpi() -> Iterator[Any]:
    """The other processes of mpirun, which work until this context ends and then exit: SystemExit, in each of them."""
    futures = _import("mpi4py.futures", "mpi4py")
    comm = _import("mpi4py.MPI", "mpi4py").COMM_WORLD
    if comm.Get_size() == 1:
        raise InputError(
            "expected several processes of MPI, got one; run the command as `mpirun -n 9 bigin ...`, of which one "
            "process directs the others"
        )
    with futures.MPICommExecutor(comm, root=0) as pool:
        if pool is not None:
            yield pool
    if pool is None:  # here, as its context lets no exception of such a process pass
        raise SystemExit(0)


def _import(name: str, package: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"expected {name.split('.')[0]}, which is not installed ({error}); pip install '{package}'"
        ) from None


def limits_for(limits: Limits, executor: Any) -> Limits:
    """A worker's limits: the threads that were asked for, else its share of this machine's cores, else one."""
    if limits.max_threads is not None:
        return limits
    workers = getattr(executor, "_max_workers", None)
    threads = max(1, memory.threads() // workers) if isinstance(workers, int) else 1
    return replace(limits, max_threads=threads)
