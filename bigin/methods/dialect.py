"""Methods by the names of another library, with the meaning of its names, parameters and defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bigin.core.errors import InputError
from bigin.core.text import similar
from bigin.methods import table
from bigin.methods.table import REQUIRED

Meaning = tuple[str, dict[str, Any]]  # a method of bigin's table, and the parameters that it takes there


@dataclass(frozen=True)
class Foreign:
    """A method of another library.

    defaults: of the parameters that it takes there. meaning: from all of them, and from what the library's methods
    depend on besides, such as a shape, to a method of the table.
    """

    defaults: Mapping[str, Any]
    meaning: Callable[..., Meaning]


@dataclass(frozen=True)
class Dialect:
    """The methods of a library's module by their names there; one that it has not is bigin's own, with its layout."""

    module: str
    rows: Mapping[str, Foreign]
    layout: Mapping[str, Any]

    def meaning(self, method: Any, given: Mapping[str, Any], **besides: Any) -> Meaning:
        """The method of the table and its parameters; raises InputError where the name or a parameter is unknown."""
        if not isinstance(method, str):
            raise InputError(f"expected a method's name, got {method!r}")
        row = self.rows.get(method)
        if row is None:
            if method not in table.METHODS and method not in table.ALIASES:
                known = [*self.rows, *table.METHODS]
                hint = similar(method, known) or "; `bigin methods` lists bigin's"
                raise InputError(f"expected a method of {self.module} or bigin, got {method!r}{hint}")
            own = table.find(method)
            return own.name, {k: v for k, v in self.layout.items() if k in own.defaults} | dict(given)
        for name in given:
            if name not in row.defaults:
                takes = ", ".join(row.defaults) or "no parameters"
                raise InputError(
                    f"{method} of {self.module} does not take {name!r}; it takes {takes}{similar(name, row.defaults)}"
                )
        for name, default in row.defaults.items():
            if default == REQUIRED and given.get(name) is None:
                raise InputError(f"{method} of {self.module} needs {name}")
        return row.meaning(**besides, **{name: given.get(name, default) for name, default in row.defaults.items()})


# Kernels of JAX, Flax and Keras are (..., in, out).
CHANNELS_LAST = {"in_axis": -2, "out_axis": -1}
# The variance scalings that have names: the scale, the mode, and bigin's method for the uniform one.
NAMED_SCALINGS = {
    "glorot": (1.0, "fan_avg", "xavier_uniform"),
    "he": (2.0, "fan_in", "kaiming_uniform"),
    "lecun": (1.0, "fan_in", "lecun_uniform"),
}
