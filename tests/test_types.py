"""What a user's type checker sees of the installed package."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from common import ROOT

USER = """
import numpy as np

import bigin
import bigin.init

array = np.empty((3, 4), np.float32)
report: bigin.Report = bigin.fill(array, "normal", seed=1, std=0.02)
seconds: float = report.seconds
same: bool = bigin.verify("w.npy").equal
again: np.ndarray[tuple[int, int], np.dtype[np.float32]] = bigin.init.normal_(array, std=0.02)
try:
    table = bigin.EmbeddingTable.open("table.zarr")
except bigin.InputError as error:
    print(error)
"""

# Each line must be an error: else a user's checker takes the package's names for Any.
WRONG = """
import bigin

bigin.fill("w.npy", 3)
bigin.fill("w.npy", "normal", seed="one")
bigin.verify("w.npy").nothing
bigin.nothing
"""

# Packages that a user may have or not: none of their types is in what USER calls, and to read them takes a minute.
CONFIGURATION = """
[mypy]
[mypy-torch.*,jax.*,keras.*,transformers.*,fbgemm_gpu.*,numba.*,matplotlib.*,IPython.*]
follow_imports = skip
"""


@pytest.fixture(name="python", scope="module")
def _python(tmp_path_factory):
    """A Python that has bigin installed beside what is installed here, as a type checker finds it: by its files."""
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed: pip install 'bigin[lint]'")
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    paths = [str(ROOT), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    (folder / "lib" / version / "site-packages" / "bigin.pth").write_text("\n".join(dict.fromkeys(paths)))
    return folder / "bin" / "python"


@pytest.mark.slow
def test_a_users_file_is_checked_with_the_packages_types(python):
    """Both in one run, which reads the package once."""
    Path("user.py").write_text(USER)
    Path("wrong.py").write_text(WRONG)
    Path("mypy.ini").write_text(CONFIGURATION)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=mypy.ini", f"--python-executable={python}"]
    done = subprocess.run([*command, "user.py", "wrong.py"], capture_output=True, text=True)
    wrong = [f"wrong.py:{number}" for number, line in enumerate(WRONG.splitlines(), 1) if line.startswith("bigin.")]
    told = [":".join(line.split(":")[:2]) for line in done.stdout.splitlines() if ": error: " in line]
    assert list(dict.fromkeys(told)) == wrong, done.stdout + done.stderr
