"""Pictures: one look for all of them, and the only module that knows matplotlib.

matplotlib is an extra, `wattnap[plot]`: the daemon never needs it, and a small board is
better off without it. It is imported when a picture is made, not before.
"""

from __future__ import annotations

import io
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.errors import NotInstalled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REQUIREMENT = "matplotlib>=3.10,<4"  # as in pyproject.toml

FORMATS = (".png", ".svg", ".pdf")

# Okabe & Ito, "Color Universal Design", 2008: told apart also by the colour-blind.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PINK, YELLOW, GREY = "#56B4E9", "#CC79A7", "#F0E442", "#B8B8B8"

INK, FAINT = "#333333", "#DDDDDD"

LOOK: dict[Any, Any] = {  # matplotlib's names have a type of their own, which only it knows
    "figure.dpi": 150,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,  # a client's name may contain dollars
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "svg.hashsalt": "wattnap",  # the same data make the same file
}


@contextmanager
def picture(
    path: Path,
    *,
    width_in: float = 9.0,
    height_in: float = 4.5,
    rows: int = 1,
    columns: int = 1,
) -> Iterator[Figure]:
    """A figure to draw on, which is in `path` afterwards: PNG, SVG or PDF, by its name.

    Nothing is written if the block fails; an older file is replaced at the end.

    rows, columns  of equal axes, one below the other or side by side

    Raises NotInstalled without matplotlib, ValueError for another kind of file, OSError
    if it cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path.name}: a picture ends in {', '.join(FORMATS)}")
    # Else it says on stderr that it builds its cache of fonts, and where.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise NotInstalled(
            f"a picture needs matplotlib, the extra wattnap[plot]: {error}; get it with"
            f" `{sys.executable} -m pip install '{REQUIREMENT}'`"
        ) from error
    with mpl.rc_context(LOOK), warnings.catch_warnings():
        figure = Figure(figsize=(width_in, height_in))
        figure.subplots(rows, columns)
        yield figure
        drawn = io.BytesIO()
        # A name in a script that its font does not have is drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        figure.savefig(drawn, format=path.suffix.lower()[1:], metadata=_without_date(path))
    path.write_bytes(drawn.getvalue())


def _without_date(path: Path) -> dict[str, None] | None:
    """So that the same data make the same file."""
    return {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(path.suffix.lower()[1:])
