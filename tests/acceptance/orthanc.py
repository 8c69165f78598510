"""Orthanc, a real PACS, on loopback: C-STORE and C-FIND on one side, DICOMweb and its REST interface on the other."""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import httpx

from tests.acceptance.peers import answers_echo, child, free_port, missing, program

HARNESS_AE = "HARNESS"
_PLUGIN_FOLDERS = (Path("/usr/share/orthanc/plugins"), Path("/usr/lib/orthanc"))


class Orthanc:
    """Orthanc with its data in `folder`, from the start of a `with` block to its end.

    It accepts associations from 127.0.0.1 alone, from the application entities `known` (AE title -> the port it
    listens on, which Orthanc sends to) and from HARNESS_AE. Skips the test where Orthanc is not installed.
    """

    def __init__(
        self, folder: Path, *, known: Mapping[str, int] | None = None, ae_title: str = "ORTHANC", **more: object
    ) -> None:
        self.folder = folder
        self.known = {HARNESS_AE: 104, **(known or {})}
        self.ae_title = ae_title
        self.more = more  # keys of its configuration
        self.dicom_port = free_port()
        self.http_url = f"http://127.0.0.1:{free_port()}"
        self.dicomweb_url = f"{self.http_url}/dicom-web"
        self._running = ExitStack()

    def __enter__(self) -> Self:
        binary, plugin = program("Orthanc", "orthanc"), _dicomweb_plugin()
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "orthanc.json"
        config.write_text(json.dumps(_config(self, plugin), indent=1))
        self._running.enter_context(child([binary, config], log=self.folder / "orthanc.log", ready=self._serves))
        return self

    def __exit__(self, *exc: object) -> None:
        self._running.close()

    def get(self, path: str) -> Any:
        """The JSON that Orthanc's REST interface answers, such as `get("statistics")["CountInstances"]`."""
        answer = httpx.get(f"{self.http_url}/{path}", trust_env=False)
        answer.raise_for_status()
        return answer.json()

    def post(self, path: str, body: object) -> Any:
        """As `get`; `post("modalities/ICHNODE/store", [id])` lets Orthanc send a stored study, series or instance."""
        answer = httpx.post(f"{self.http_url}/{path}", json=body, trust_env=False, timeout=120)
        answer.raise_for_status()
        return answer.json()

    def post_file(self, file: Path) -> None:
        """Store a DICOM file."""
        httpx.post(f"{self.http_url}/instances", content=file.read_bytes(), trust_env=False).raise_for_status()

    def _serves(self) -> bool:
        try:
            answer = httpx.get(f"{self.dicomweb_url}/studies", trust_env=False)
        except httpx.TransportError:
            return False
        return answer.is_success and answers_echo(self.dicom_port, self.ae_title, HARNESS_AE)


def _dicomweb_plugin() -> Path:
    found = [path for folder in _PLUGIN_FOLDERS for path in sorted(folder.glob("libOrthancDicomWeb.so*"))]
    return found[0] if found else missing("Orthanc's DICOMweb plugin", "apt-get install orthanc-dicomweb")


def _config(orthanc: Orthanc, plugin: Path) -> dict[str, object]:
    return {
        "Name": orthanc.ae_title,
        "StorageDirectory": str(orthanc.folder / "data"),
        "IndexDirectory": str(orthanc.folder / "data"),
        "Plugins": [str(plugin)],
        "HttpPort": httpx.URL(orthanc.http_url).port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "TcpNoDelay": True,
        "DicomAet": orthanc.ae_title,
        "DicomPort": orthanc.dicom_port,
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowEcho": False,
        "DicomAlwaysAllowStore": False,
        "DicomCheckModalityHost": True,
        "DicomModalities": {aet: [aet, "127.0.0.1", port] for aet, port in orthanc.known.items()},
        "SaveJobs": False,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False},
        **orthanc.more,
    }
