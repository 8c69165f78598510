"""What acceptance tests of viewers share: a study in a PACS, analysed once, and where their pictures are left."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.dcmtk import storescu
from tests.acceptance.orthanc import HARNESS_AE, Orthanc
from tests.acceptance.study_in_pacs import StudyInPacs, analysed, drawn, in_slice_order
from tests.postgres import Cluster


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pictures of the viewer are kept in; ICHNODE_SCREENSHOTS, or a temporary one."""
    given = os.environ.get("ICHNODE_SCREENSHOTS")
    folder = Path(given) if given else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """The section `database` of a node: SQLite, and real PostgreSQL."""
    if request.param == "sqlite":
        yield {}
        return
    postgres: Cluster = request.getfixturevalue("postgres")
    name = postgres.database()
    yield {"url": postgres.url(name)}
    postgres.drop(name)


@pytest.fixture(scope="session", params=["drawn", "analysed"])
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudyInPacs]:
    """A plastic head from a real scanner with a hematoma drawn into it; or the simulated patient, analysed.

    The predicted follow-up of the first is a CT series, that of the second a Secondary Capture.
    """
    folder = tmp_path_factory.mktemp("study")
    if request.param == "drawn":
        source = sorted((request.getfixturevalue("test_data") / "philips_phantom_study" / "S2010").iterdir())
        results = drawn(source, folder)
    else:
        source, results = analysed(folder)
    with Orthanc(folder / "orthanc") as pacs:
        storescu("127.0.0.1", pacs.dicom_port, [*source, *results], pacs.ae_title, HARNESS_AE)
        yield StudyInPacs(
            name=request.param, source=in_slice_order(source), results=results, dicomweb_url=pacs.dicomweb_url
        )
