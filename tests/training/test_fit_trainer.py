"""Training goes on as if it had never stopped, alone or together, and fails aloud."""

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest
import torch
from torch import nn

from models.segmenter import Segmenter
from tests.training.fit_factory import TINY, Cubes, FailsAt, nothing_to_validate, tiny_recipe
from training.data.manifest import DataError
from training.expansion.system import ExpansionSystem
from training.fit import trainer
from training.fit.checkpoint import BEST, LAST, begin, read
from training.fit.learned_from import LearnedFrom
from training.fit.plateau import Plateau
from training.fit.trainer import Diverged, fit
from training.fit.validation import StyleScores
from training.segmentation.system import Heads, SegmenterSystem
from training.segmentation.validation import dice_of


def assert_equal_states(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_resumed_training_ends_with_the_same_bits_as_one_never_stopped(tmp_path: Path) -> None:
    fit(tiny_recipe(), Cubes(), nothing_to_validate, tmp_path / "whole")
    fit(tiny_recipe(steps=3), Cubes(), nothing_to_validate, tmp_path / "halves")
    fit(tiny_recipe(), Cubes(), nothing_to_validate, tmp_path / "halves")
    whole, halves = read(tmp_path / "whole" / LAST, SegmenterSystem), read(tmp_path / "halves" / LAST, SegmenterSystem)
    assert halves["step"] == 6
    assert_equal_states(halves["network"], whole["network"])
    assert_equal_states(halves["average"], whole["average"])
    for number, state in whole["optimizer"]["state"].items():
        assert_equal_states(halves["optimizer"]["state"][number], state)


@pytest.mark.parametrize(
    "how",
    [
        {"schedule": "cosine", "optimizer": "AdamW"},
        {"schedule": "plateau", "optimizer": "AMSGrad", "accumulated": 3, "average_decay": 0.0},
        {"schedule": "plateau", "optimizer": "SGD", "clip_norm": inf},
        {"optimizer": "Adam", "accumulated": 2},
    ],
)
def test_a_training_that_was_stopped_has_the_losses_and_rates_of_one_never_stopped(
    how: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StopsOnce(Cubes):
        def batch(self, number: int):  # type: ignore[no-untyped-def]
            if number == 11 * recipe.accumulated:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().batch(number)

    def told(folder: Path) -> list[tuple[float, float]]:
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return [(line["loss"], line["rate"]) for line in lines if line["kind"] == "training"]

    monkeypatch.setattr("training.fit.journal.EVERY_STEPS", 1)
    recipe = tiny_recipe(steps=30, learning_rate=1e-4, **how)  # at which losses hardly fall
    fit(recipe, Cubes(), nothing_to_validate, tmp_path / "whole")
    assert fit(recipe, StopsOnce(), nothing_to_validate, tmp_path / "parts").step == 12
    done = fit(recipe, Cubes(), nothing_to_validate, tmp_path / "parts")
    assert told(tmp_path / "parts") == told(tmp_path / "whole")
    assert len(told(tmp_path / "whole")) == 30
    assert done.plateau is None or 0 < done.plateau.share < 1


def test_a_plateau_is_that_of_torch() -> None:
    wave = torch.randn(4000, generator=torch.Generator().manual_seed(0)).tolist()
    losses = [1 / (1 + step / 50) + 0.3 * noise for step, noise in enumerate(wave)]
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1e-3)
    theirs, ours = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.98, patience=5), Plateau()
    for loss in losses:
        theirs.step(loss + 2)
        ours = ours.after(loss + 2)
        assert 1e-3 * ours.share == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
    assert ours.share < 1e-3


def test_batches_of_a_step_count_as_one_that_is_as_large(tmp_path: Path) -> None:
    class Twos:
        def batch(self, number: int):  # type: ignore[no-untyped-def]
            pair = [Cubes().batch(2 * number + index).tensors() for index in range(2)]
            return Heads(**{name: torch.cat([one[name] for one in pair]) for name in pair[0]})

    quiet = {"steps": 3, "optimizer": "SGD", "learning_rate": 0.01, "clip_norm": inf}
    together = fit(tiny_recipe(**quiet), Twos(), nothing_to_validate, tmp_path / "together").network
    one_by_one = fit(tiny_recipe(**quiet, accumulated=2), Cubes(), nothing_to_validate, tmp_path / "one by one").network
    untrained = begin(tiny_recipe(**quiet)).network
    for now, other, before in zip(together.parameters(), one_by_one.parameters(), untrained.parameters(), strict=True):
        assert float((now - other).detach().norm()) <= 0.2 * float((now - before).detach().norm()) + 1e-4


def test_a_checkpoint_from_before_there_were_other_optimizers_is_gone_on_with(tmp_path: Path) -> None:
    fit(tiny_recipe(steps=3), Cubes(), nothing_to_validate, tmp_path)
    stored = torch.load(tmp_path / LAST, weights_only=True)
    del stored["plateau"]
    for name in ("optimizer", "schedule", "accumulated", "own"):
        del stored["recipe"][name]
    torch.save(stored, tmp_path / LAST)
    with pytest.raises(DataError, match="is of a training by scaled AdamW, not by SGD"):
        fit(tiny_recipe(optimizer="SGD"), Cubes(), nothing_to_validate, tmp_path)
    own = LearnedFrom(manifest="any")
    assert fit(tiny_recipe(schedule="plateau", own=own), Cubes(), nothing_to_validate, tmp_path).step == 6


def test_a_training_goes_on_with_the_own_patients_that_it_learned_from_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text("one")
    (tmp_path / "other.jsonl").write_text("other")

    def goes_on(own: LearnedFrom | None, steps: int) -> int:
        return fit(tiny_recipe(steps=steps, own=own), Cubes(), nothing_to_validate, tmp_path / "run").step

    first = LearnedFrom.of(tmp_path / "one.jsonl", folds=5, fold=0)
    for steps, own in enumerate((None, first, first), start=1):  # they may come to simulated ones
        assert goes_on(own, steps) == steps
    manifest, other = first.manifest, LearnedFrom.of(tmp_path / "other.jsonl").manifest
    for unlike, named in (
        (replace(first, fold=1), "other own patients: fold 0, not 1;"),
        (LearnedFrom.of(tmp_path / "one.jsonl"), "other own patients: folds 5, not None, fold 0, not None;"),
        (LearnedFrom.of(tmp_path / "other.jsonl", 5, 0), f"other own patients: manifest {manifest}, not {other};"),
        (None, "learned from own patients: go on with the same --data"),
    ):
        with pytest.raises(DataError, match=named):
            goes_on(unlike, 4)


def test_batches_made_ahead_train_the_same_network(tmp_path: Path) -> None:
    here = fit(tiny_recipe(), Cubes(), nothing_to_validate, tmp_path / "here")
    ahead = fit(tiny_recipe(makers=1), Cubes(), nothing_to_validate, tmp_path / "ahead")
    assert_equal_states(ahead.network.state_dict(), here.network.state_dict())


def test_a_maker_that_fails_stops_the_training_and_says_why(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no head number 2") as failure:
        fit(tiny_recipe(makers=1), FailsAt(2), nothing_to_validate, tmp_path)
    assert "in batch" in str(failure.value.__cause__)


def test_a_fresh_training_starts_over(tmp_path: Path) -> None:
    fit(tiny_recipe(), Cubes(), nothing_to_validate, tmp_path)
    boards = set((tmp_path / "tensorboard").iterdir())
    assert fit(tiny_recipe(steps=2), Cubes(), nothing_to_validate, tmp_path, fresh=True).step == 2
    assert not boards & set((tmp_path / "tensorboard").iterdir())


def test_a_training_begins_with_the_weights_given_and_goes_on_from_its_own_checkpoint(tmp_path: Path) -> None:
    weights = fit(tiny_recipe(), Cubes(), nothing_to_validate, tmp_path / "one").network.state_dict()
    weights["temperature"] = torch.tensor(1.4)
    begun = fit(tiny_recipe(steps=0), Cubes(), nothing_to_validate, tmp_path / "two", weights=weights)
    assert_equal_states(begun.average.state_dict(), {**weights, "temperature": torch.tensor(1.0)})
    fit(tiny_recipe(steps=2), Cubes(), nothing_to_validate, tmp_path / "two", weights=weights)
    gone_on = fit(tiny_recipe(steps=4), Cubes(), nothing_to_validate, tmp_path / "two", weights=weights)
    never_stopped = fit(tiny_recipe(steps=4), Cubes(), nothing_to_validate, tmp_path / "three", weights=weights)
    assert_equal_states(gone_on.network.state_dict(), never_stopped.network.state_dict())


def test_steps_done_again_after_a_kill_stand_in_the_journal_once(tmp_path: Path) -> None:
    fit(tiny_recipe(steps=20), Cubes(), nothing_to_validate, tmp_path)
    before = (tmp_path / LAST).read_bytes()
    fit(tiny_recipe(steps=60), Cubes(), nothing_to_validate, tmp_path)
    (tmp_path / LAST).write_bytes(before)  # as if killed before it was saved again
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8')  # and in the middle of a line
    fit(tiny_recipe(steps=60), Cubes(), nothing_to_validate, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "training"] == [20, 40, 60]


def test_the_loss_falls(tmp_path: Path) -> None:
    fit(tiny_recipe(steps=80, learning_rate=1e-2), Cubes(), nothing_to_validate, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "training"]
    assert losses[-1] < 0.7 * losses[0]


def test_the_best_checkpoint_is_that_of_the_best_worst_style(tmp_path: Path) -> None:
    scores = iter([{"a": 0.9, "b": 0.2}, {"a": 0.5, "b": 0.4}, {"a": 0.9, "b": 0.3}])

    def validate(network: nn.Module) -> dict[str, float]:
        return next(scores)

    for steps in (1, 2, 3):
        fit(tiny_recipe(steps=steps), Cubes(), validate, tmp_path)
    assert (read(tmp_path / BEST, SegmenterSystem)["step"], read(tmp_path / LAST, SegmenterSystem)["step"]) == (2, 3)
    assert read(tmp_path / LAST, SegmenterSystem)["best"] == 0.4


def test_hours_end_a_training_without_steps(tmp_path: Path) -> None:
    assert fit(tiny_recipe(steps=None, hours=0.0), Cubes(), nothing_to_validate, tmp_path).step == 0
    assert (tmp_path / LAST).exists()


def test_a_stop_signal_ends_after_the_step_with_a_checkpoint(tmp_path: Path) -> None:
    class Stops(Cubes):
        def batch(self, number: int):  # type: ignore[no-untyped-def]
            if number == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().batch(number)

    fit(tiny_recipe(), Stops(), nothing_to_validate, tmp_path)
    assert read(tmp_path / LAST, SegmenterSystem)["step"] == 4


def test_ctrl_c_reaches_the_training_alone_and_not_those_who_make_batches_ahead(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from tests.training.fit_factory import *
from training.fit.trainer import fit
if __name__ == "__main__":
    fit(tiny_recipe(steps=None, makers=1), Cubes(), nothing_to_validate, Path(sys.argv[1]))
"""
    (tmp_path / "train.py").write_text(script)
    command = [sys.executable, tmp_path / "train.py", tmp_path / "run"]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True) as run:
        assert run.stdout is not None
        run.stdout.readline()  # of step 20
        os.killpg(run.pid, signal.SIGINT)
        assert run.wait(timeout=120) == 0
    assert read(tmp_path / "run" / LAST, SegmenterSystem)["step"] >= 20


def test_before_a_batch_that_cannot_be_made_the_steps_are_saved(tmp_path: Path) -> None:
    class Unreadable(Cubes):
        def batch(self, number: int):  # type: ignore[no-untyped-def]
            if number == 3:
                raise DataError("A17 cannot be read")
            return super().batch(number)

    with pytest.raises(DataError, match="A17"):
        fit(tiny_recipe(), Unreadable(), nothing_to_validate, tmp_path)
    assert read(tmp_path / LAST, SegmenterSystem)["step"] == 3


def test_a_training_that_only_gets_gradients_that_are_no_numbers_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Cubes):
        def batch(self, number: int):  # type: ignore[no-untyped-def]
            batch = super().batch(number)
            return batch if number < 2 else replace(batch, hu_bdhw=batch.hu_bdhw * float("nan"))

    monkeypatch.setattr(trainer, "MOST_PASSED_OVER", 3)
    with pytest.raises(Diverged, match="3 steps in a row"):
        fit(tiny_recipe(steps=10), Broken(), nothing_to_validate, tmp_path)
    saved = read(tmp_path / LAST, SegmenterSystem)
    assert all(bool(weight.isfinite().all()) for weight in saved["network"].values())
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert "NaN" not in str(lines)


def test_what_is_validated_is_an_average_that_follows_the_weights(tmp_path: Path) -> None:
    done = fit(tiny_recipe(steps=5), Cubes(), nothing_to_validate, tmp_path)
    first = fit(tiny_recipe(steps=0), Cubes(), nothing_to_validate, tmp_path / "untrained").network
    names = [name for name, weight in done.network.named_parameters() if weight.ndim > 1]
    states = [network.state_dict() for network in (first, done.average, done.network)]
    for name in names:
        start, average, now = (state[name] for state in states)
        assert 0 < float((average - start).norm()) < float((now - start).norm()) * 1.05


class Remembers(SegmenterSystem):
    """Has statistics of what it was shown, as batch normalization has."""

    def network(self) -> Segmenter:
        network = super().network()
        network.add_module("shown", nn.BatchNorm3d(1, affine=False))
        return network

    def answer(self, network: Segmenter, batch: Heads) -> list[torch.Tensor]:
        network.get_submodule("shown")(batch.hu_bdhw[:, None])
        return super().answer(network, batch)


def test_statistics_are_averaged_as_the_weights_that_they_are_of(tmp_path: Path) -> None:
    recipe = tiny_recipe(steps=4, system=Remembers(config=TINY))
    done = fit(recipe, Cubes(), nothing_to_validate, tmp_path)
    mean = average = 0.0
    for step in range(4):
        mean += 0.1 * (float(Cubes().batch(step).hu_bdhw.mean()) - mean)
        average += (1 - recipe.average_decay_at(step)) * (mean - average)
    for network, wanted in ((done.network, mean), (done.average, average)):
        shown = network.get_submodule("shown")
        assert isinstance(shown, nn.BatchNorm3d)
        assert shown.running_mean is not None
        assert float(shown.running_mean) == pytest.approx(wanted, rel=1e-3)
        assert shown.num_batches_tracked == 4


def test_after_a_change_of_styles_the_best_is_found_anew(tmp_path: Path) -> None:
    fit(tiny_recipe(steps=1), Cubes(), lambda network: {"a": 0.9}, tmp_path)
    fit(tiny_recipe(steps=2), Cubes(), lambda network: {"a": 0.9, "own data": 0.4}, tmp_path)
    assert read(tmp_path / BEST, SegmenterSystem)["step"] == 2


def test_a_killed_training_resumes_from_its_last_checkpoint(tmp_path: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from tests.training.fit_factory import *
from training.fit.trainer import fit

class Dies(Cubes):
    def batch(self, number):
        if number == 4:
            os.kill(os.getpid(), 9)
        return super().batch(number)

fit(tiny_recipe(save_every_s=0), Dies(), nothing_to_validate, Path(sys.argv[1]))
"""
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path / "killed")], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert read(tmp_path / "killed" / LAST, SegmenterSystem)["step"] == 4
    resumed = fit(tiny_recipe(), Cubes(), nothing_to_validate, tmp_path / "killed")
    whole = fit(tiny_recipe(), Cubes(), nothing_to_validate, tmp_path / "whole")
    assert_equal_states(resumed.network.state_dict(), whole.network.state_dict())


def test_two_processes_end_with_equal_weights_trained_on_both_their_batches(tmp_path: Path) -> None:
    script = """
import os, sys, torch
from pathlib import Path
from tests.training.fit_factory import *
from training.fit.trainer import fit
from training.fit.group import Group
group = Group.join("gloo")
layer = torch.nn.Linear(1, 1, bias=False)
layer.weight.grad = torch.full((1, 1), float(group.rank))
group.average_gradients(layer)
assert float(layer.weight.grad) == 0.5
group.leave()
recipe = tiny_recipe(backend="gloo", steps=3, accumulated=2, schedule="plateau")
done = fit(recipe, Cubes(), nothing_to_validate, Path(sys.argv[1]))
lowest = {"lowest": torch.tensor(done.plateau.lowest, dtype=torch.float64)}
torch.save(done.network.state_dict() | lowest, Path(sys.argv[1]) / f"{os.environ['RANK']}.pt")
"""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    group = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    command = [sys.executable, "-c", script, str(tmp_path)]
    ranks = [subprocess.Popen(command, env={**group, "RANK": str(rank)}) for rank in range(2)]
    assert [rank.wait(timeout=300) for rank in ranks] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert_equal_states(first, second)
    alone = fit(tiny_recipe(steps=3), Cubes(), nothing_to_validate, tmp_path / "alone")
    assert not torch.equal(alone.network.state_dict()["heads.0.weight"], first["heads.0.weight"])


def test_scores_of_styles_count_false_positives_in_heads_without_hemorrhage() -> None:
    class Says(nn.Module):
        def forward(self, x_bcdhw: torch.Tensor) -> torch.Tensor:
            return (x_bcdhw[:, :1] > 0.5).float().expand(-1, 5, -1, -1, -1) / 5

    class Dull(Cubes):
        def batch(self, number: int):  # type: ignore[no-untyped-def]
            batch = super().batch(number)
            batch.labels_bdhw.zero_()
            return batch

    scores = StyleScores({"blood": Cubes(), "normal": Dull()}, dice_of, batches=3, device="cpu")(Says())
    assert scores["blood"] > 0.9
    assert scores["normal"] == 0.0


def test_a_checkpoint_of_another_system_is_refused_by_its_name(tmp_path: Path) -> None:
    fit(tiny_recipe(steps=1), Cubes(), nothing_to_validate, tmp_path)
    with pytest.raises(DataError, match="is a checkpoint of SegmenterSystem, not of ExpansionSystem"):
        read(tmp_path / LAST, ExpansionSystem)
