"""What mkdocstrings asks of each docstring: sections named Example are read as Examples, the name that it knows."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Examples that are shown as code."""

    def on_object(self, *, obj: griffe.Object, **context: Any) -> None:
        """Rename the sections of an object's docstring."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.M)
