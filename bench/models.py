"""A whole model against one array of its size."""

from __future__ import annotations

import numpy as np

from bench import check
from bench.check import some
from bench.measure import Work, WrongError
from bench.setting import COLUMNS, Setting
from bigin.api.models import initialize
from bigin.targets.safetensors.header import lay_out, pack_header, read_header

TENSORS = 288
RECIPE = '[default]\nmethod = "normal"\n'


def checkpoint(setting: Setting) -> Work:
    """bigin.initialize of a safetensors file of many tensors, as large as the file of the other cases, all cores."""
    folder = setting.folder / "ours"
    rows = setting.size // 4 // COLUMNS
    count = min(TENSORS, rows)
    shapes = {f"layers.{i}.weight": (rows // count + (i < rows % count), COLUMNS) for i in range(count)}

    def prepare() -> None:
        (folder / "recipe.toml").write_text(RECIPE)
        entries = lay_out((name, "float32", shape) for name, shape in shapes.items())
        with (folder / "like.safetensors").open("wb") as file:
            file.write(pack_header(entries, {}))
            file.truncate(file.tell() + max(entry.end for entry in entries.values()))  # a hole: it is not read

    def run() -> int:
        return initialize(folder / "recipe.toml", folder / "w.safetensors", like=folder / "like.safetensors").nbytes

    def look() -> None:
        path = folder / "w.safetensors"
        header = read_header(path)
        for name in (min(shapes), max(shapes)):
            shape = shapes[name]
            values = np.memmap(path, np.float32, "r", header.start + header.entries[name].begin, shape).reshape(-1)
            indices = some(0, values.size)
            expected = np.asarray(check.reference().elements("normal", {}, shape, "float32", 0, name, indices))
            if expected.tobytes() != values[indices].tobytes():
                raise WrongError(f"{name}: elements differ from the reference")

    return Work(run, look, folder, setting.size, prepare)
