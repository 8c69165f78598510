"""Tables of the report to read in a terminal."""

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from training.evaluate.report import Report, provenance
from training.evaluate.summary import (
    ALL,
    DICE_BY_TYPE,
    LESIONS_BY_TYPE,
    LESIONS_BY_VOLUME,
    MEASURES,
    PATIENTS_BY_VOLUME,
    Measure,
    Summary,
    by_style,
    worst_style,
)

# column heading, measure, format
COLUMNS = (
    ("Dice", "dice", ".2f"),
    ("Dice\nfrom 1 mL", "dice_1ml", ".2f"),
    ("Dice, all heads\nas one", "dice_pooled", ".2f"),
    ("Dice, only IPH\nfrom 5 mL", "dice_lone_iph_5ml", ".2f"),
    ("HD95 mm\n(median)", "hd95_mm", ".1f"),
    ("volume error %\n(median)", "volume_error_percent", ".0f"),
    ("bias mL", "bias_ml", "+.1f"),
    ("patients\nfound", "sensitivity", ".0%"),
    ("normals\n<= 0.2 mL", "normals_clean", ".0%"),
    ("true volume\nin interval", "interval_coverage", ".0%"),
    ("the same, where\nany is marked", "interval_coverage_marked", ".0%"),
)


def tables(found: Sequence[Report]) -> Group:
    """What the command prints."""
    head = Text(provenance(score.simulated for score in found[0].scores), style="bold")
    parts = [
        _table("Dice where the patient has the type", DICE_BY_TYPE, [(r.contender, r.dice_by_type) for r in found]),
        _table("Lesions found, by type", LESIONS_BY_TYPE, [(r.contender, r.lesions_by_type) for r in found]),
        _table("Patients found, by volume", PATIENTS_BY_VOLUME, [(r.contender, r.patients_by_volume) for r in found]),
        _table("Lesions found, by volume", LESIONS_BY_VOLUME, [(r.contender, r.lesions_by_volume) for r in found]),
    ]
    gains = [
        Text(f"Dice of {found[0].contender} minus {other}: {gain.text('+.2f')}")
        for other, gain in found[0].dice_gain.items()
    ]
    return Group(head, _main_table(found), *parts, *gains)


def _main_table(found: Sequence[Report]) -> Table:
    table = Table(title="All types together [95 % interval over patients]")
    table.add_column("")
    for heading in ("bleeding\n/ normal", *(heading for heading, _, _ in COLUMNS), "limits of\nagreement mL"):
        table.add_column(heading, justify="right")
    measures = {m.key: m for m in MEASURES}
    for report in found:
        for style, scores in by_style(report.scores).items():
            bleeding, summary = sum(s.bleeds for s in scores), report.styles[style]
            cells = [summary[key].text(form) for _, key, form in COLUMNS]
            name = f"[bold]{report.contender}" if style == ALL else f"  {style}"
            table.add_row(name, f"{bleeding} / {len(scores) - bleeding}", *cells, _limits(summary))
        if len(report.styles) > 1:
            cells = [_worst(report, measures[key], form) for _, key, form in COLUMNS]
            table.add_row("  worst style", "", *cells, "", style="bold")
        table.add_section()
    return table


def _limits(summary: Summary) -> str:
    low, high = summary["lower_limit_ml"].value, summary["upper_limit_ml"].value
    return "-" if low is None or high is None else f"{low:.1f} to {high:.1f}"


def _worst(report: Report, measure: Measure, form: str) -> str:
    worst = worst_style(report.styles, measure)
    return f"{worst[1].value:{form}} ({worst[0]})" if worst else "-"


def _table(title: str, measures: Sequence[Measure], rows: Sequence[tuple[str, Summary]]) -> Table:
    """One row for each contender, with the number of patients that each figure rests on."""
    table = Table(title=title)
    table.add_column("")
    for measure in measures:
        table.add_column(f"{measure.key}\nn = {max(s[measure.key].patients for _, s in rows)}", justify="right")
    for name, summary in rows:
        table.add_row(name, *(summary[m.key].text(".2f") for m in measures))
    return table
