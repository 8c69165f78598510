"""In training a head is shown as the node shows it: its box, in whole strides, with its labels in place."""

import torch

from models.segmenter import SegmenterConfig
from training.segmentation.showing import boxed, together
from training.simulate.draw import Draw
from training.simulate.scanner import Scanned

SPACING_MM = (5.0, 2.0, 2.0)


def head(air_hu: float = -1000.0) -> Scanned:
    """80 mm of head in 200 mm of air, all of it labelled."""
    hu, labels = torch.full((12, 100, 100), air_hu), torch.zeros(12, 100, 100, dtype=torch.uint8)
    hu[2:10, 30:70, 30:70], labels[2:10, 30:70, 30:70] = 40.0, 1
    return Scanned(hu=hu, labels=labels)


def test_a_head_is_shown_in_its_box_and_at_times_with_more_air_of_the_same_kind() -> None:
    seen = [boxed(head(air_hu=-30.0), SPACING_MM, Draw(seed=seed)) for seed in range(30)]
    sizes = [each.hu.shape[1:] for each in seen]
    assert all(each.hu.shape == each.labels.shape and each.hu.shape[0] == 10 for each in seen)
    assert all(int((each.labels == 1).sum()) == 8 * 40 * 40 for each in seen)
    assert sizes.count((44, 44)) >= 15
    assert (56, 56) >= max(sizes) > (44, 44)
    assert all(each.hu.unique().tolist() == [-30.0, 40.0] for each in seen)


def test_heads_of_different_size_make_a_batch_in_whole_strides_with_labels_where_the_head_is() -> None:
    small = Scanned(hu=head().hu[2:5, 30:50, 30:50], labels=head().labels[2:5, 30:50, 30:50])
    batch = together([head(), small])
    planes, rows, columns = batch.hu_bdhw.shape[1:]
    assert SegmenterConfig().fitting((planes, rows, columns)) == (planes, rows, columns)
    assert torch.equal(batch.labels_bdhw == 1, batch.hu_bdhw == 40)
