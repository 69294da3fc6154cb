"""Every kind of executor, as one table: a new one is a row here, and runs the whole suite of test_executors.py."""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import pickle
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Here:
    """Runs what is submitted at once, from its pickle, as another process would; `fails` says of how many parts."""

    def __init__(self, fails: int = 0) -> None:
        self.fails = fails
        self.submitted: list[Any] = []
        self.sizes: list[int] = []  # of the pickles

    def submit(self, function, *arguments):
        future: Future[Any] = Future()
        data = pickle.dumps((function, arguments))
        self.sizes.append(len(data))
        function, arguments = pickle.loads(data)
        self.submitted.append(arguments[0] if len(arguments) == 1 else arguments)
        try:
            if len(self.submitted) <= self.fails:
                raise ConnectionError("a worker is lost")
            result = function(*arguments)
            assert len(pickle.dumps(result)) < 1000  # a few bytes come back
            future.set_result(result)
        except Exception as error:
            future.set_exception(error)
        return future


class Asked:
    """Futures that can only be asked, as those of submitit."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(2)

    def submit(self, function, *arguments):
        future = self.pool.submit(function, *arguments)

        class Job:
            done = staticmethod(future.done)
            result = staticmethod(future.result)

        return Job()


@contextmanager
def process_pool() -> Iterator[Any]:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


@contextmanager
def dask_client() -> Iterator[Any]:
    import distributed

    with (
        warnings.catch_warnings(),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50, processes=True
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        warnings.simplefilter("ignore")
        yield client


@contextmanager
def dask_executor() -> Iterator[Any]:
    with dask_client() as client:
        yield client.get_executor()


@contextmanager
def dask_text() -> Iterator[Any]:
    with dask_client() as client:
        yield client.scheduler.address.replace("tcp://", "dask://")


@contextmanager
def ray_module() -> Iterator[Any]:
    import logging

    import ray

    ray.init(num_cpus=2, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    try:
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def submitit_executor() -> Iterator[Any]:
    import submitit

    executor = submitit.AutoExecutor(Path.cwd() / "submitit", cluster="local")
    executor.update_parameters(timeout_min=5, cpus_per_task=1)
    yield executor


@contextmanager
def parsl_pool() -> Iterator[Any]:
    import parsl
    from parsl.concurrent import ParslPoolExecutor
    from parsl.configs.local_threads import config

    with ParslPoolExecutor(config) as pool:
        yield pool
    with contextlib.suppress(Exception):
        parsl.clear()


@dataclass(frozen=True)
class Kind:
    """A kind of executor: what starts it, the package that it needs, and whether that takes long."""

    name: str
    start: Callable[[], Any]
    package: str = ""
    slow: bool = False

    @property
    def missing(self) -> str:
        """What to install, where the package is missing."""
        there = not self.package or importlib.util.find_spec(self.package) is not None
        return "" if there else f"{self.package} is not installed: pip install {self.package}"


KINDS = [
    Kind("here", lambda: contextlib.nullcontext(Here())),
    Kind("threads", lambda: ThreadPoolExecutor(2)),
    Kind("asked", lambda: contextlib.nullcontext(Asked())),
    Kind("processes", process_pool, slow=True),
    Kind("processes:2", lambda: contextlib.nullcontext("processes:2"), slow=True),
    Kind("dask Client", dask_client, "distributed"),
    Kind("dask get_executor", dask_executor, "distributed", slow=True),
    Kind("dask://", dask_text, "distributed", slow=True),
    Kind("ray", ray_module, "ray", slow=True),
    Kind("submitit", submitit_executor, "submitit", slow=True),
    Kind("parsl", parsl_pool, "parsl", slow=True),
]
