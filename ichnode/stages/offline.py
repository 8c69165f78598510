"""Offline: the node's decisions and analysis on a folder of DICOM files, with no network and no ledger."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ichnode.domain.facts import SeriesFacts
from ichnode.domain.progress import Tell, silently
from ichnode.domain.rules import Decision, Rule
from ichnode.domain.study import Series
from ichnode.errors import InferenceError, RefusedSeries
from ichnode.imaging.quality import checked_head
from ichnode.imaging.series_reader import read_volume
from ichnode.results.provenance import RunContext
from ichnode.stages.analyser import AnalyserSettings, Analysis, AnalysisRequest
from ichnode.stages.decide import decide_study
from ichnode.stages.folder import Folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of one series or file."""

    subject: str
    outcome: str  # analysed, ignored, refused, failed, not read
    detail: str
    folder: Path | None = None  # of the results

    @property
    def text(self) -> str:
        """In one line."""
        return ": ".join((self.subject, *([] if self.folder else [self.outcome]), self.detail))


def explain_folder(folder: Folder, rules: tuple[Rule, ...], tell: Tell = silently) -> list[dict[str, Any]]:
    """Every series of `folder`: its decision, and for one to analyse also what the gates say to its pixels."""
    return [
        {
            "study_instance_uid": series.study_instance_uid,
            "series_instance_uid": series.series_instance_uid,
            "series_number": facts.series_number,
            "series_description": str(series.instances[0].header.get("SeriesDescription", "")),
            "slice_count": facts.slice_count,
            "thickness": facts.thickness,
            "decision": "analyse" if decision.analyse else "ignore",
            "rule": decision.rule.name if decision.rule else None,
            "reason": decision.reason.value,
            "detail": decision.detail,
            "gate": _gate(series) if decision.analyse else None,
        }
        for series, facts, decision in _decided(folder, rules, "looking at series", tell)
    ]


def analyze_folder(
    folder: Folder,
    out: Path,
    *,
    rules: tuple[Rule, ...],
    analyser: AnalyserSettings,
    config_sha256: str,
    tell: Tell = silently,
) -> Iterator[Report]:
    """Analyse what the rules choose of `folder`; results and findings go to one folder a series below `out`.

    A series that fails is reported like the others. Raises ConfigError or InferenceError when the
    analyser itself cannot be built.
    """
    for file, problem in folder.unreadable:
        yield Report(subject=str(file), outcome="not read", detail=problem)
    run: Callable[[AnalysisRequest], Analysis] | None = None
    for series, facts, decision in _decided(folder, rules, "analysing series", tell):
        name = f"series {facts.series_number}"
        if not decision.analyse or decision.rule is None:
            yield Report(subject=name, outcome="ignored", detail=f"{decision.reason}: {decision.detail}")
            continue
        run = run or analyser()
        context = RunContext(run_at=datetime.now(), config_sha256=config_sha256, rule=decision.rule.name)
        try:
            analysis = run(AnalysisRequest(series=series, run=decision.rule.run, context=context))
            target = _free_folder(out, facts.series_number)
            _write(analysis, target)
        except RefusedSeries as refusal:
            yield Report(subject=name, outcome="refused", detail=f"{refusal.reason}: {refusal.detail}")
        except InferenceError as failure:
            yield Report(subject=name, outcome="failed", detail=f"{failure.reason}: {failure.detail}")
        except (OSError, ValueError) as error:
            yield Report(subject=name, outcome="failed", detail=str(error))
        else:
            said = f"{_summary(analysis)}; {len(analysis.objects)} results in {target}"
            yield Report(subject=name, outcome="analysed", detail=said, folder=target)


def _decided(
    folder: Folder, rules: tuple[Rule, ...], doing: str, tell: Tell
) -> Iterator[tuple[Series, SeriesFacts, Decision]]:
    number, total = 0, sum(len(study.series) for study in folder.studies)
    for study in folder.studies:
        for series, (facts, decision) in zip(study.series, decide_study(study, rules), strict=True):
            number += 1
            tell(doing, number, total)
            yield series, facts, decision


def _gate(series: Series) -> str:
    """ "passed", or the reason and detail of the refusal, or why its files cannot be read."""
    try:
        checked_head(read_volume(series))
    except RefusedSeries as refusal:
        return f"{refusal.reason}: {refusal.detail}"
    except (OSError, ValueError) as problem:
        return f"not read: {problem}"
    return "passed"


def _free_folder(out: Path, series_number: int) -> Path:
    """A new folder below `out`, named by the series number."""
    candidate, copy = out / f"series-{series_number}", 1
    while candidate.exists():
        copy += 1
        candidate = out / f"series-{series_number}-{copy}"
    candidate.mkdir(parents=True)
    return candidate


def _write(analysis: Analysis, target: Path) -> None:
    count: dict[str, int] = {}
    for composed in analysis.objects:
        count[composed.role] = count.get(composed.role, 0) + 1
        several = sum(o.role == composed.role for o in analysis.objects) > 1
        name = f"{composed.role}-{count[composed.role]:03d}" if several else composed.role
        (target / f"{name}.dcm").write_bytes(composed.encoded)
    record = {"findings": analysis.findings, "seconds": analysis.seconds, "device": analysis.device}
    (target / "findings.json").write_text(json.dumps(record, indent=2), "utf-8")


def _summary(analysis: Analysis) -> str:
    hematoma = (analysis.findings or {}).get("hematoma")
    if hematoma is None:
        return "no hematoma found"
    return (
        f"hematoma {hematoma['volume_ml']:.1f} mL "
        f"({hematoma['volume_low_ml']:.1f} to {hematoma['volume_high_ml']:.1f}), {hematoma['side']}"
    )
