"""GPUs as nvidia-smi tells of them; the node itself loads no CUDA."""

import subprocess
from dataclasses import dataclass

_FIELDS = "name,memory.used,memory.total,utilization.gpu,temperature.gpu"
_COMMAND = ("nvidia-smi", f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits")
_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU; numbers as text, as some cards do not tell them."""

    name: str
    used_mib: str
    total_mib: str
    busy_percent: str
    celsius: str


def gpus() -> list[Gpu]:
    """All of this machine; none where nvidia-smi is not there or does not answer."""
    try:
        said = subprocess.run(_COMMAND, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = ([part.strip() for part in line.split(",")] for line in said.splitlines())
    return [
        Gpu(name=name, used_mib=used, total_mib=total, busy_percent=busy, celsius=celsius)
        for name, used, total, busy, celsius in (row for row in rows if len(row) == 5)
    ]
