"""The one style of all pictures: colors for light and for dark pages, which differ in lightness too, as print needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Style:
    """Colors.

    ink: of text. grey: of frames. pale: of what is compared with. first, second: of bigin's values, and of a second
    line. page: of the background. values: of the lowest value, 0 and the highest.
    """

    ink: str
    grey: str
    pale: str
    first: str
    second: str
    page: str
    values: tuple[str, str, str]

    @property
    def title(self) -> dict[str, Any]:
        """Arguments of a title over a picture."""
        return {"loc": "left", "fontsize": 9, "color": self.grey}

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of matplotlib, for pictures that are drawn with pyplot."""
        text = dict.fromkeys(
            ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.titlecolor"), self.ink
        )
        page = dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), self.page)
        return {"font.size": 9, "axes.edgecolor": self.grey, **text, **page}


LIGHT = Style("#30343b", "#7d838c", "#c3c8d0", "#0b7285", "#c8501e", "#ffffff", ("#b2182b", "#f7f7f7", "#2166ac"))
DARK = Style("#dde1e7", "#9aa1ab", "#565d68", "#3bbccf", "#f0894f", "none", ("#ff8f7a", "#20242c", "#66b8f2"))


def framed(axes: Axes, style: Style) -> None:
    """Draw the frame of a picture in grey, without its top and right side."""
    axes.set_facecolor(style.page)
    axes.tick_params(which="both", colors=style.grey, labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["bottom", "left"]].set_color(style.grey)
