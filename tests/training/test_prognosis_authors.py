"""The authors' weights of system B come over name by name; what is something else is refused."""

import hashlib
import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from models.prognosis import PUBLISHED, Prognosis
from training.__main__ import app
from training.fit.checkpoint import LAST
from training.patients.plans import PLANS


@pytest.fixture(scope="module")
def theirs() -> dict[str, Tensor]:
    """A state dictionary with the names of their program: a trunk, and a linear layer behind three others per head."""
    torch.manual_seed(1)
    names = {
        "features.": "feature_extractor.features.",
        "poor.": "binary_head.3.",
        "gcs.": "ordinal_headGCS.3.",
        "elderly.": "ordinal_headAge.3.",
    }
    state = {}
    for name, weight in Prognosis(PUBLISHED).state_dict().items():
        for ours, their in names.items():
            if name.startswith(ours):
                state[their + name.removeprefix(ours)] = weight
    return state


def run(file: Path, out: Path, *more: str) -> tuple[int, str]:
    outcome = CliRunner().invoke(app, ["import-weights", "prognosis", str(file), "--out", str(out), *more])
    return outcome.exit_code, outcome.output.replace("\n", "")


def test_every_weight_comes_over_and_the_checksum_is_said(theirs: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(theirs, tmp_path / "theirs.pth")
    code, said = run(tmp_path / "theirs.pth", tmp_path / "run")
    assert code == 0, said
    assert hashlib.sha256((tmp_path / "theirs.pth").read_bytes()).hexdigest() in said

    plan, made = PLANS["prognosis"].trained(tmp_path / "run" / LAST)
    network = made.network
    assert torch.equal(network.features.conv0.weight, theirs["feature_extractor.features.conv0.weight"])
    assert torch.equal(network.gcs.weight, theirs["ordinal_headGCS.3.weight"])
    assert torch.equal(network.poor.bias, theirs["binary_head.3.bias"])
    assert plan is PLANS["prognosis"].variants["paper"]
    assert plan.stripped == network.config.stripped


def test_rows_from_back_to_front_are_turned(theirs: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({"model_state_dict": {f"module.{name}": weight for name, weight in theirs.items()}}, tmp_path / "a.pth")
    networks = []
    for folder, option in (("back", "--anterior-last"), ("front", "--no-anterior-last")):
        assert run(tmp_path / "a.pth", tmp_path / folder, option)[0] == 0
        networks.append(PLANS["prognosis"].trained(tmp_path / folder / LAST)[1].network)
    hu = torch.rand(1, 1, 32, 32, 32) * 100
    with torch.inference_mode():
        back, front, turned = networks[0](hu), networks[1](hu), networks[1](hu.flip(-2))
    assert torch.equal(back.poor_b, turned.poor_b)
    assert not torch.equal(back.poor_b, front.poor_b)


def test_what_is_not_theirs_is_refused(theirs: dict[str, Tensor], tmp_path: Path) -> None:
    binary = dict(theirs) | {"ordinal_headGCS.3.weight": torch.zeros(1, 1024)}
    less = {name: weight for name, weight in theirs.items() if name != "binary_head.3.bias"}
    for what, named in (
        (binary, "gcs.weight is (1, 1024), not (2, 1024)"),
        (less, "poor.bias is missing"),
        (theirs | {"extra": torch.zeros(1)}, "extra is unknown"),
        ([1, 2], "holds no state dictionary"),
    ):
        torch.save(what, tmp_path / "other.pth")
        code, said = run(tmp_path / "other.pth", tmp_path / "run")
        assert code == 2
        assert named in said
    assert not (tmp_path / "run" / LAST).exists()


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("/tmp/ichnode-must-not-exist"),))  # type: ignore[return-value]


def test_a_pickle_that_would_run_something_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "bad.pth").write_bytes(pickle.dumps(Harmful()))
    code, said = run(tmp_path / "bad.pth", tmp_path / "run")
    assert code == 2
    assert "nothing else in it is run" in said
    assert not Path("/tmp/ichnode-must-not-exist").exists()
