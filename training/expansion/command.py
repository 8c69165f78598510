"""The command `fit expansion`: parsing and printing."""

from training.expansion.system import Expansion
from training.expansion.validation import GrowthScores
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
from training.patients.simulated import SimulatedPatients, validation_source
from training.simulate.cohort import TRAINING_SEEDS
from training.simulate.planes import around_origin
from training.simulate.styles import TRAINING

KINDS = ("iph",)  # spontaneous parenchymal hemorrhage
VALIDATION_BATCHES = 24


def fit_expansion(
    out: Out,
    recipe: RecipeName = RecipeName.CPU,
    steps: Steps = None,
    decay_steps: DecaySteps = 0,
    learning_rate: LearningRate = None,
    hours: Hours = None,
    first_patient: FirstPatient = 0,
    resume: Resume = True,
) -> None:
    """Train the prediction of the next day's hematoma (system D) on simulated patients."""
    system = Expansion()
    grid = around_origin(system.shape, system.spacing_mm)
    chosen = recipe_of(system, recipe, steps=steps, decay_steps=decay_steps, learning_rate=learning_rate, hours=hours)
    source = SimulatedPatients(
        grid=grid,
        style=TRAINING,
        kinds=KINDS,
        first_seed=TRAINING_SEEDS + first_patient,
        device=chosen.device,
        heads=chosen.batch,
    )
    styles = {style.name: validation_source(grid, style, KINDS, chosen.device) for style in held_out_styles()}
    validate = GrowthScores(styles, batches=VALIDATION_BATCHES, device=chosen.device)
    with problems_told():
        train(chosen, source, validate, tuple(styles), out, resume=resume, start_from=None)
