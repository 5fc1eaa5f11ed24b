"""What an ablation found: a table, and whether the order holds that was looked for."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any

from ...text import csv_text, markdown_table
from ...words import plural
from ..config import Config
from ..paired import Paired, order, paired
from .catalogue import Ablation
from .widths import Solved

__all__ = ["PUBLISHED", "Report", "Verdict"]

PUBLISHED = "Published, not measured here"
"""How the sentence of a report begins that says what the paper prints."""


@dataclass(frozen=True)
class Verdict:
    """Whether one net is better than another here, by the runs with the same seeds."""

    better: str
    worse: str
    found: Paired

    def __str__(self) -> str:
        error = self.found.error
        spread = "unknown" if math.isnan(error) else f"{100 * error:.2f}"
        return (
            f"{self.better} better than {self.worse}: {self.found.word} (by "
            f"{100 * self.found.difference:+.2f} points, standard error of the pairs {spread})"
        )


@dataclass(frozen=True)
class Report:
    """What an ablation found.

    Attributes
    ----------
    ablation : Ablation
    config : Config
        What all trainings have in common.
    arms : list of Solved
    accuracies : dict
        Test accuracy after the last epoch, 0 to 1, of every seed, by name of the arm.
    """

    ablation: Ablation
    config: Config
    arms: list[Solved]
    accuracies: dict[str, list[float]]

    @property
    def verdicts(self) -> list[Verdict]:
        """One for each pair of the order."""
        by_seed = {name: dict(enumerate(found)) for name, found in self.accuracies.items()}
        return [
            Verdict(better, worse, paired(by_seed[better], by_seed[worse]))
            for better, worse in self.ablation.order
        ]

    @property
    def verdict(self) -> str:
        """One sentence."""
        whose = "The supposed" if self.ablation.supposed else "The paper's"
        return order(whose, (verdict.found for verdict in self.verdicts))

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return headings and a line an arm."""
        headings = ["net", "stages", "mult-adds", "params", "seeds", "accuracy", "std", "lowest",
                    "highest"]  # fmt: skip
        lines = []
        for solved in self.arms:
            found = self.accuracies[solved.arm.name]
            std = f"{100 * statistics.stdev(found):.2f}" if len(found) > 1 else "-"
            lines.append([
                solved.arm.name,
                solved.widths,
                f"{solved.multiply_adds:,}",
                f"{solved.params:,}",
                str(len(found)),
                f"{100 * statistics.mean(found):.2f} %",
                std,
                f"{100 * min(found):.2f}",
                f"{100 * max(found):.2f}",
            ])
        return headings, lines

    def to_markdown(self) -> str:
        """Return the question, the table and the verdict."""
        config = self.config
        return "\n".join([
            f"## {self.ablation.title}",
            "",
            f"{config.data}, {plural(config.epochs, 'epoch')}, {config.measured} after the last "
            "one.",
            "",
            *markdown_table(*self.table()),
            "",
            f"{self.verdict}",
            "",
            *(f"- {verdict}" for verdict in self.verdicts),
            "",
            self.published,
            "",
        ])

    @property
    def published(self) -> str:
        """One sentence: what the paper prints of these nets."""
        arms = (solved.arm for solved in self.arms)
        errors = [f"{a.name} {a.published} %" for a in arms if a.published is not None]
        said = "it prints no number of these nets"
        if errors:
            said = f"top-1 error on ImageNet of {', '.join(errors)}"
        if self.ablation.supposed:
            return f"{PUBLISHED} ({self.ablation.source}): {said}, and no order of them."
        return (
            f"{PUBLISHED} ({self.ablation.source}), another data set and other training, for the "
            f"order only: {said}."
        )

    def to_csv(self) -> str:
        """Return a line a run."""
        rows: list[list[Any]] = [
            ["net", "stages", "multiply_adds", "params", "seed", "test_accuracy"]
        ]
        rows += [
            [s.arm.name, s.widths, s.multiply_adds, s.params, seed, accuracy]
            for s in self.arms
            for seed, accuracy in enumerate(self.accuracies[s.arm.name])
        ]
        return csv_text(rows)
