"""What a run counted, beside the goal of RELIABILITY.md section 6."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number."""

    what: str
    measured: float
    least: float = float("-inf")
    most: float = float("inf")

    @property
    def met(self) -> bool:
        return self.least <= self.measured <= self.most

    @property
    def goal(self) -> str:
        if self.least == self.most:
            return f"{self.least:g}"
        bounds = (f">= {self.least:g}" * (self.least > float("-inf")), f"<= {self.most:g}" * (self.most < float("inf")))
        return " and ".join(bound for bound in bounds if bound)


def missed(figures: Sequence[Figure]) -> list[str]:
    """What does not meet its goal."""
    return [f"{f.what}: {f.measured:g}, goal {f.goal}" for f in figures if not f.met]


def show(title: str, figures: Sequence[Figure]) -> None:
    """Print one run's table."""
    table = Table("what", title=title, title_justify="left")
    table.add_column("measured", justify="right")
    table.add_column("goal", justify="right")
    table.add_column("")
    for figure in figures:
        rounded = f"{figure.measured:.0f}" if abs(figure.measured) >= 1000 else f"{figure.measured:.4g}"
        table.add_row(figure.what, rounded, figure.goal, "" if figure.met else "MISSED")
    Console(width=110).print(table)
