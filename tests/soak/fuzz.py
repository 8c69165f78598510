"""Each reader of received bytes, fuzzed in a process of its own: nothing breaks it, and its memory does not grow."""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.soak.figures import Figure

TITLE = "fuzzed readers"
# not from tests.fuzz.targets, which changes how nodes of the process that imports it log
READERS = ("associate", "command", "data-set", "conversation")
WARM = 0.1  # of the inputs come before caches are full
GROWTH_MB = 50
# libFuzzer tells the highest RSS, which a program has from who starts it: here from a shell, which is small
SMALL_PARENT = ("sh", "-c", '"$@"; exit', "sh")
PULSE = re.compile(r"^#(\d+)\s.* rss: (\d+)Mb", re.MULTILINE)
EXECUTED = re.compile(r"^stat::number_of_executed_units: (\d+)", re.MULTILINE)


def measure(folder: Path, *, inputs: int, readers: Sequence[str] = READERS) -> list[Figure]:
    """So many inputs for each; a crash or a hang ends that reader's run, and its input stays in the folder."""
    return [figure for reader in readers for figure in _fuzzed(reader, folder, inputs)]


def _fuzzed(reader: str, folder: Path, inputs: int) -> list[Figure]:
    corpus, log = folder / reader, folder / f"{reader}.log"
    command = [sys.executable, "-m", "tests.fuzz", reader, corpus, f"-runs={inputs}", "-print_final_stats=1"]
    with log.open("w") as told:
        ended = subprocess.run([*SMALL_PARENT, *command], stdout=told, stderr=told, check=False)
    said = log.read_text(errors="replace")
    executed = sum(int(count) for count in EXECUTED.findall(said))
    rss_mb = [(int(count), int(mb)) for count, mb in PULSE.findall(said)]
    warm_mb = max((mb for count, mb in rss_mb if count <= WARM * inputs), default=0)
    most_mb = max((mb for _, mb in rss_mb), default=0)
    return [
        Figure(what=f"{reader}: inputs", measured=executed, least=inputs),
        Figure(what=f"{reader}: crashes and hangs", measured=int(ended.returncode != 0), least=0, most=0),
        Figure(what=f"{reader}: growth of RSS, MB", measured=most_mb - warm_mb, most=GROWTH_MB),
    ]
