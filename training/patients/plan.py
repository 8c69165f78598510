"""Plan: how one of the four published systems is trained on patients."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.data.manifest import DataError, Row, Split
from training.fit.system import System
from training.fit.validation import Score
from training.patients.batch import Patients
from training.patients.evaluation import Evaluate
from training.patients.export import Export, Trained, trained
from training.patients.likeness import AlikeIn
from training.patients.own_data import OwnPatient, OwnPatients, own_patients
from training.patients.recipes import PlanRecipe
from training.patients.simulated import Cohort, SimulatedPatients
from training.simulate.styles import TRAINING


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The system, on whom it is trained, and how it is validated."""

    letter: str  # of the system, in the papers' order; its commands have this name too
    about: str  # the help of its command
    system: System
    kinds: tuple[str, ...]  # of population.KINDS, in turn
    followup: bool  # whether it reads what comes true on the next CT
    masks: bool = False  # whether it needs to know where blood is
    synthetic: float = 0.0  # of the showings, whose first CT is made of the follow-up
    finds_brain: bool = False  # whether it asks where the brain is
    stripped: bool = False  # whether it reads the cavity alone
    unknown: float = 0.0  # of what is known of the patients, that the network is not told
    header_alone: float = 0.0  # of the patients, of whom it is told what a header says
    score: Score[Patients]
    recipe: PlanRecipe  # on any machine
    alike_in: AlikeIn  # folds of own patients
    begins_from: str | None = None  # a bundle by its name, unless another is asked for
    validation_patients: int
    showings: int = 3  # of each patient, on average
    recent: int = 100  # patients that are kept to be shown again
    export: Export[Any] | None  # None: there is no pipeline for it in the node
    evaluate: Evaluate
    variants: Mapping[str, "Plan"] = field(default_factory=dict)  # other sizes, and the ablations of the paper

    def on(self, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> "Plan":
        """The plan or variant that shows patients on such a grid. Raises DataError where there is none."""
        for plan in (self, *self.variants.values()):
            if (plan.system.shape, plan.system.spacing_mm) == (shape, spacing_mm):
                return plan
        raise DataError(f"no variant reads {shape} voxels of {spacing_mm} mm")

    def trained(self, checkpoint: Path) -> "tuple[Plan, Trained[Any]]":
        """What a checkpoint holds, and the plan or variant that shows patients as it reads them.

        Raises DataError for the checkpoint of another system, or of an older network, and OSError.
        """
        kinds = {type(plan.system).__name__: type(plan.system) for plan in (self, *self.variants.values())}
        made = trained(checkpoint, kinds)
        return self.on(made.system.shape, made.system.spacing_mm), made

    def patients(
        self, first_seed: int, device: str = "cpu", heads: int = 1, cohort: Cohort | None = None
    ) -> SimulatedPatients:
        """Those it is trained on."""
        return SimulatedPatients(
            grid=self.system.grid,
            style=TRAINING,
            kinds=self.kinds,
            followup=self.followup,
            finds_brain=self.finds_brain,
            stripped=self.stripped,
            unknown=self.unknown,
            header_alone=self.header_alone,
            showings=self.showings,
            recent=self.recent,
            cohort=cohort,
            first_seed=first_seed,
            device=device,
            heads=heads,
        )

    def own_patients(self, rows: Sequence[Row], split: Split) -> list[OwnPatient]:
        """Those of a manifest that it can learn from. Raises DataError where there are none."""
        found = own_patients(rows, split, followup=self.followup, masks=self.masks)
        if not found:
            needed = ["a first CT", *["with a follow-up in 72 hours"] * self.followup, *["and masks"] * self.masks]
            raise DataError(f"the split {split} has no patient that has {' '.join(needed)}")
        return found

    def own(
        self, patients: Sequence[OwnPatient], heads: int = 1, *, as_they_are: bool, tell: Callable[[str], None]
    ) -> OwnPatients:
        """Those that can be aligned, as it reads them, the others told; raises as `OwnPatients.aligned`.

        As they are, of them is known what the node knows without a table.
        """
        own = OwnPatients(
            patients=patients,
            grid=self.system.grid,
            finds_brain=self.finds_brain,
            stripped=self.stripped,
            masks=self.masks,
            unknown=0.0 if as_they_are else self.unknown,
            header_alone=float(self.header_alone > 0) if as_they_are else self.header_alone,
            heads=heads,
            as_they_are=as_they_are,
        )
        return own.aligned(tell)
