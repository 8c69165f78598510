"""The phantom as every test of reading sees it."""

import numpy as np
import pytest

from tests.series_factory import Datasets, phantom_datasets, stored_hu


@pytest.fixture(scope="module")
def datasets() -> Datasets:
    return phantom_datasets()


@pytest.fixture(scope="module")
def expected_hu(datasets: Datasets) -> np.ndarray:
    return stored_hu(datasets)
