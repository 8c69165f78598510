"""The commands `fit followup`, `prognosis`, `volume-survival` and `expansion`: parsing and printing."""

from collections.abc import Callable
from dataclasses import replace

from training.fit.command import (
    DecaySteps,
    FirstPatient,
    Hours,
    LearningRate,
    Out,
    Resume,
    Steps,
    held_out_styles,
    problems_told,
    recipe_of,
    train,
)
from training.fit.recipes import RecipeName
from training.fit.validation import StyleScores
from training.patients.plan import Plan
from training.patients.simulated import validation_of
from training.simulate.cohort import TRAINING_SEEDS


def fit_on_patients(plan: Plan) -> Callable[..., None]:
    """The command that trains as planned."""

    def command(
        out: Out,
        recipe: RecipeName = RecipeName.CPU,
        steps: Steps = None,
        decay_steps: DecaySteps = 0,
        learning_rate: LearningRate = None,
        hours: Hours = None,
        first_patient: FirstPatient = 0,
        resume: Resume = True,
    ) -> None:
        chosen = recipe_of(
            plan.system,
            recipe,
            steps=steps,
            decay_steps=decay_steps,
            learning_rate=plan.learning_rate if learning_rate is None else learning_rate,
            hours=hours,
        )
        chosen = replace(chosen, batch=max(chosen.batch, plan.least_batch))
        source = plan.patients(TRAINING_SEEDS + first_patient, chosen.device, chosen.batch)
        styles = {style.name: validation_of(source, style) for style in held_out_styles() if style.scanner == "wide"}
        validate = StyleScores(styles, plan.score, batches=plan.validation_patients, device=chosen.device)
        with problems_told():
            train(chosen, source, validate, tuple(styles), out, resume=resume, start_from=None)

    return command
