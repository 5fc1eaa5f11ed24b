"""How a notebook shows a figure, a table, and a figure that answers to a slider.

What is shown is stored in the notebook in a form that needs no kernel: a picture with its
alternative text, a table, and of a slider the picture at its starting values. Where a kernel runs
and ipywidgets is installed, the slider moves.
"""

from __future__ import annotations

import base64
import html
import inspect
import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["show", "slider", "table"]

CSS_PIXELS = 96  # an inch on a screen, as browsers define it
DPI = 160  # what is stored, for screens that are finer


def show(figure: Figure, alt: str) -> None:
    """Show ``figure`` in a notebook.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    alt : str
        What there is to see, for readers who do not see it. One or two sentences.
    """
    data, metadata = _bundle(figure, alt)
    _display(data, metadata)


def slider(
    draw: Callable[..., Figure],
    alt: str,
    possible: Callable[..., bool] | None = None,
    **choices: Sequence[Any],
) -> None:
    """Show a figure that is drawn again when a slider moves.

    Parameters
    ----------
    draw : function
        Takes the chosen values by name and returns a figure. Its defaults, which must be among
        the choices, are where the sliders start and what is shown without a kernel.
    alt : str
        The alternative text; ``{name}`` in it stands for the value chosen.
    possible : function, optional
        Takes the same values as ``draw``, and says whether there is such a picture. A slider then
        holds only the values that go with what the others stand at, so that no move of one slider
        leads to a picture that there is not.
    **choices
        The values of each argument of ``draw``: a slider an argument.
    """
    parameters = inspect.signature(draw).parameters
    start = {name: parameters[name].default for name in choices}
    data, metadata = _bundle(draw(**start), alt.format(**start))
    try:
        import ipywidgets
    except ImportError:
        _display(data, metadata)
        return
    picture = ipywidgets.HTML(_img(data, metadata))

    def fitting(name: str, chosen: dict[str, Any]) -> list[Any]:
        fits = possible or (lambda **_: True)
        return [value for value in choices[name] if fits(**(chosen | {name: value}))]

    sliders = {
        name: ipywidgets.SelectionSlider(
            options=fitting(name, start),
            value=start[name],
            description=name.replace("_", " "),
            style={"description_width": "initial"},
            continuous_update=False,
        )
        for name in choices
    }
    busy = False

    def moved(_: Any) -> None:
        nonlocal busy
        if busy:  # new options move a slider to the first of them, until it is put back
            return
        busy = True
        chosen = {name: one.value for name, one in sliders.items()}
        for name, one in sliders.items():
            if list(one.options) != fitting(name, chosen):
                one.options, one.value = fitting(name, chosen), chosen[name]
        busy = False
        picture.value = _img(*_bundle(draw(**chosen), alt.format(**chosen)))

    for one in sliders.values():
        one.observe(moved, "value")
    box = ipywidgets.VBox([*sliders.values(), picture])
    # a notebook prefers the widget while its kernel runs; everything else shows the picture
    _display(box._repr_mimebundle_() | data, metadata)


def table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Show a table in a notebook.

    Parameters
    ----------
    headings : sequence of str
    rows : sequence of sequences
        Whole numbers are written with commas, everything else as ``str`` has it.

    Examples
    --------
    ``table(*profile.table("stage"))`` shows a :class:`tinyshuffle.cost.Profile`.
    """
    cells = [[f"{c:,}" if isinstance(c, int) else str(c) for c in row] for row in rows]
    numeric = [all(_is_number(row[i]) for row in cells) for i in range(len(headings))]
    widths = [max(len(line[i]) for line in [headings, *cells]) for i in range(len(headings))]

    style = [f"text-align: {side}; white-space: nowrap" for side in ("left", "right")]

    def line(tag: str, texts: Sequence[str]) -> str:
        aligned = zip(texts, numeric, strict=True)
        return "<tr>" + "".join(
            f'<{tag} style="{style[right]}">{html.escape(text)}</{tag}>'
            for text, right in aligned
        ) + "</tr>"  # fmt: skip

    plain = "\n".join(
        "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(texts, widths, numeric, strict=True)
        ).rstrip()
        for texts in [headings, *cells]
    )
    body = "\n".join(line("td", row) for row in cells)
    markup = (
        '<div style="overflow-x: auto">\n<table>\n'
        f"<thead>{line('th', headings)}</thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>"
    )
    _display({"text/html": markup, "text/plain": plain}, {})


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[-+−]?[\d.,]*\s?[%kMG]?", text) is not None


def _bundle(figure: Figure, alt: str) -> tuple[dict[str, str], dict[str, Any]]:
    """The figure as a notebook stores it, and what it says of it."""
    data = io.BytesIO()
    # no date and no version in the file: the same figure is the same bytes
    figure.savefig(data, dpi=DPI, facecolor="white", metadata={"Software": None})
    png = base64.b64encode(data.getvalue()).decode()
    width = round(figure.get_figwidth() * CSS_PIXELS)
    return {"image/png": png, "text/plain": alt}, {"image/png": {"alt": alt, "width": width}}


def _img(data: dict[str, str], metadata: dict[str, Any]) -> str:
    about = metadata["image/png"]
    return (
        f'<img src="data:image/png;base64,{data["image/png"]}" '
        f'alt="{html.escape(about["alt"])}" style="width: {about["width"]}px; max-width: 100%">'
    )


def _display(data: dict[str, Any], metadata: dict[str, Any]) -> None:
    from IPython.display import display

    display(data, metadata=metadata, raw=True)
