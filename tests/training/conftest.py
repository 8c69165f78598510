"""What all tests of the training have in common."""

import pytest


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals for a tenth of the work; a file that tests them overrides this."""
    monkeypatch.setattr("training.evaluate.bootstrap.RESAMPLES", 100)
