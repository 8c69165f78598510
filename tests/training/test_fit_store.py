"""A head is made once for all trainings that show it; what lies there broken or of another program is made anew."""

from pathlib import Path

import pytest
import torch

from training.fit import store
from training.fit.recent import KeptHead
from training.fit.store import Store
from training.simulate.planes import around_origin

GRID = around_origin((4, 8, 6), (10.0, 4.0, 4.0))
HEAD = KeptHead(hu=torch.rand(4, 8, 6).half(), occupancy=torch.randint(0, 256, (5, 4, 8, 6), dtype=torch.uint8))


class Maker:
    made = 0

    def __call__(self) -> KeptHead:
        self.made += 1
        return HEAD


def test_a_head_is_made_once(tmp_path: Path) -> None:
    make = Maker()
    heads = [Store(folder=tmp_path, grid=GRID, style="training").head("7-iph-first", make) for _ in range(3)]
    assert make.made == 1
    assert all(torch.equal(head.hu, HEAD.hu) and torch.equal(head.occupancy, HEAD.occupancy) for head in heads)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".npz"]


def test_one_that_cannot_be_read_is_made_again(tmp_path: Path) -> None:
    kept, make = Store(folder=tmp_path, grid=GRID, style="training"), Maker()
    kept.head("7-iph-first", make)
    (path,) = tmp_path.rglob("*.npz")
    path.write_bytes(path.read_bytes()[:50])
    assert torch.equal(kept.head("7-iph-first", make).hu, HEAD.hu)
    kept.head("7-iph-first", make)
    assert make.made == 2


@pytest.mark.parametrize("other", [{"grid": around_origin((4, 8, 6), (5.0, 4.0, 4.0))}, {"style": "other skull"}])
def test_another_grid_or_style_has_heads_of_its_own(tmp_path: Path, other: dict[str, object]) -> None:
    make = Maker()
    Store(folder=tmp_path, grid=GRID, style="training").head("7-iph-first", make)
    changed = {"folder": tmp_path, "grid": GRID, "style": "training"} | other
    Store(**changed).head("7-iph-first", make)  # type: ignore[arg-type]
    assert make.made == 2


def test_a_changed_simulator_makes_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, make = Store(folder=tmp_path, grid=GRID, style="training"), Maker()
    kept.head("7-iph-first", make)
    monkeypatch.setattr(store, "_program", lambda: "0123456789ab")
    kept.head("7-iph-first", make)
    assert make.made == 2
