from __future__ import annotations

import gc
import os
import signal
import tempfile
from collections.abc import Iterator

import pytest
import quick
from hypothesis import HealthCheck, settings

# Kernels are compiled once for the whole run and all of its workers, and not into the user's cache.
os.environ.setdefault("BIGIN_CACHE_DIR", os.path.join(tempfile.gettempdir(), f"bigin-test-kernels-{os.getuid()}"))

# Workers take every core, and threads of numpy's linear algebra that wait for one turn in circles.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# A test that needs another number of examples writes @examples(300) of tests/common.py, a share of this one.
common = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.register_profile("all", common, max_examples=100)
settings.register_profile("quick", common, max_examples=20)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="run the slow tests too, and every example of hypothesis")


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("all" if config.getoption("--all") else "quick")
    # nohup and many CI systems start their commands with signals ignored, and a child would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_IGN:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is imported here stays, so that Python need not look for cycles in it: now, or again during the tests."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what quick.py leaves to a full run, unless it is asked for: by --all, by -m, or by name."""
    if config.getoption("--all") or config.getoption("-m"):
        return
    named = {argument.partition("::")[2].partition("[")[0] for argument in config.args if "::" in argument}
    kept = list(quick.chosen(items, named))
    if left := set(items) - set(kept):
        config.hook.pytest_deselected(items=list(left))
        items[:] = kept


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    """Every test stands in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def moto():
    """An S3 on this machine, one for each worker, as it takes seconds to start. Each test has a folder of its own."""
    from servers import SERVERS, missing

    if reason := missing("moto"):
        pytest.skip(reason)
    with SERVERS["moto"]() as held:
        yield held
