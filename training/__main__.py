"""`python -m training`: simulate patients, import data, fit, export and evaluate networks."""

import typer

from training.data.command import import_data
from training.evaluate.command import calibrate_segmenter
from training.evaluate.command import segmenter as evaluate_segmenter
from training.fit.command import curves
from training.patients.command import export_of, fit_on_patients
from training.patients.evaluate_command import evaluate_of
from training.patients.plans import PLANS
from training.prognosis.command import import_prognosis_weights
from training.segmentation.command import export_segmenter, fit_segmenter
from training.simulate.command import demo_patient, simulate

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
fit = typer.Typer(help="Train a network.", no_args_is_help=True)
export = typer.Typer(help="Make a bundle of a checkpoint.", no_args_is_help=True)
calibrate = typer.Typer(help="How sure a network may be.", no_args_is_help=True)
import_weights = typer.Typer(help="Take over the weights of others.", no_args_is_help=True)
evaluate = typer.Typer(help="Measure a network on patients with known truth.", no_args_is_help=True)

app.command()(simulate)
app.command()(demo_patient)
app.command("import")(import_data)
app.command()(curves)
fit.command("segmenter")(fit_segmenter)
for system, plan in PLANS.items():
    for name, is_hidden in ((system, False), (plan.letter, True)):
        fit.command(name, help=plan.about, hidden=is_hidden)(fit_on_patients(plan))
        export.command(name, help=f"Make a bundle of a checkpoint. {plan.about}", hidden=is_hidden)(export_of(plan))
        evaluate.command(name, help=f"Measure bundles. {plan.about}", hidden=is_hidden)(evaluate_of(system, plan))
export.command("segmenter")(export_segmenter)
calibrate.command("segmenter")(calibrate_segmenter)
evaluate.command("segmenter")(evaluate_segmenter)
import_weights.command("prognosis")(import_prognosis_weights)
for name, group in (
    ("import-weights", import_weights),
    ("fit", fit),
    ("export", export),
    ("calibrate", calibrate),
    ("evaluate", evaluate),
):
    app.add_typer(group, name=name)

if __name__ == "__main__":
    app()
