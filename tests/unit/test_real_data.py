"""Where every peer is promised, missing test data is a failure and not a skip."""

from pathlib import Path

import pytest

from tests.real_data import real_data
from tests.results_factory import shared_data
from tests.volume_factory import real_volume


@pytest.mark.parametrize(("required", "outcome"), [("1", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_missing_data_skips_a_test_and_fails_it_where_everything_is_promised(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, required: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("ICHNODE_TEST_DATA", str(tmp_path))
    monkeypatch.setenv("ICHNODE_REQUIRE_PEERS", required)
    for ask in (real_data, lambda: shared_data("ge_head_nct"), lambda: real_volume("ge_head_nct")):
        with pytest.raises(outcome, match="ge_head_nct is not here"):
            ask()
