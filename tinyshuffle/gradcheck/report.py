"""What a gradient check finds: a row a gradient, and the table of them."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Report", "Row"]

EPS = (1e-5, 1e-6, 1e-7)  # tried in turn; the smaller ones are for points near a kink
MOST_UNJUDGED = 0.1  # share of a gradient's entries that may go without a judgement


@dataclass
class Row:
    """What was found for one gradient: a parameter's, or the input's (named ``dx``)."""

    name: str
    shape: tuple[int, ...]
    checked: int = 0  # entries or directions: right, wrong and not judged
    near_kink: int = 0  # right, with a smaller ε or another direction only
    on_kink: int = 0  # not judged
    too_small: int = 0  # not judged, as rounding hides them
    wrong: int = 0
    not_added: str = ""  # what two backward passes leave in place of twice the gradient
    error: float = 0.0  # the worst relative error of those that were judged, and where it is
    index: tuple[int, ...] | str = ()
    analytic: float = 0.0
    numeric: float = 0.0
    eps: float = EPS[0]

    @property
    def verdict(self) -> str:
        """"right", "wrong" or "not judged", which is what too many kinks make it."""
        if self.wrong or self.not_added:
            return "wrong"
        return "not judged" if self.unjudged > MOST_UNJUDGED * self.checked else "right"

    @property
    def unjudged(self) -> int:
        return self.on_kink + self.too_small


@dataclass
class Report:
    """The result of :func:`gradcheck`; ``print`` it for a table.

    Attributes
    ----------
    rows : list of Row
        One for dx and one for each parameter.
    verdict : str
        "right" if every row is; "wrong" if one is; "not judged" otherwise.
    passed : bool
        Whether the verdict is "right".
    max_relative_error : float
        Of what was judged: relative to the largest entry of the gradient's tensor, or to the
        slope along the direction.
    """

    rows: list[Row] = field(default_factory=list)

    @property
    def max_relative_error(self) -> float:
        return max((row.error for row in self.rows), default=0.0)

    @property
    def verdict(self) -> str:
        verdicts = {row.verdict for row in self.rows} or {"not judged"}
        return next(v for v in ("wrong", "not judged", "right") if v in verdicts)

    @property
    def failures(self) -> list[str]:
        """One sentence for each gradient that is wrong, or that could not be judged."""
        out = []
        for row in self.rows:
            if row.not_added:
                out.append(
                    f"{row.name} {row.shape} is set and not added to: two backward passes without "
                    f"zero_grad leave {row.not_added}; use accumulate(…) in place of grad = …"
                )
            if row.wrong:
                where = row.index if isinstance(row.index, str) else f"index {row.index}"
                out.append(
                    f"{row.name} {row.shape} is wrong at {where}: analytic {row.analytic:.10g}, "
                    f"numeric {row.numeric:.10g} with eps {row.eps:g} "
                    f"(relative error {row.error:.2e})"
                )
            if row.verdict != "not judged":
                continue
            if row.on_kink:
                out.append(
                    f"{row.name} {row.shape}: {row.on_kink} of {row.checked} entries sit on a "
                    "kink, or too near to one, and cannot be judged; use another x"
                )
            if row.too_small:
                out.append(
                    f"{row.name} {row.shape}: {row.too_small} of {row.checked} entries are so "
                    "small beside the other gradients that rounding hides them, and cannot be "
                    "judged; scale x or the parameters so that all gradients are of about one size"
                )
        return out

    @property
    def passed(self) -> bool:
        return self.verdict == "right"

    def __str__(self) -> str:
        width = max([9, *(len(row.name) for row in self.rows)])
        lines = [f"{'gradient':<{width}}  {'shape':<20} {'checked':>7} {'kinks':>5} {'error':>9}"]
        for row in self.rows:
            mark = {"right": "", "wrong": "  WRONG", "not judged": "  not judged"}[row.verdict]
            lines.append(
                f"{row.name:<{width}}  {row.shape!s:<20} {row.checked:>7} "
                f"{row.near_kink + row.on_kink:>5} {row.error:>9.1e}{mark}"
            )
        words = {"right": "passed", "wrong": "FAILED", "not judged": "not judged"}[self.verdict]
        lines.append(f"{words}: largest relative error {self.max_relative_error:.1e}")
        if unjudged := sum(row.unjudged for row in self.rows):
            lines[-1] += f", {unjudged} of {sum(row.checked for row in self.rows)} not judged"
        return "\n".join(lines + self.failures)

    __repr__ = __str__
