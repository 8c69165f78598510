"""`python -m tests.fuzz TARGET CORPUS [libFuzzer options]`: atheris, guided by the code that is reached.

CORPUS is a folder; it is given the examples of the target when it is empty. `-runs=N`, `-max_total_time=S` and the like
say when it is enough. What breaks a target is written to a file crash-..., which the same command reads again.
"""

import logging
import sys
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["ichnode", "pynetdicom"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Fuzz one target."""
    if len(sys.argv) < 3 or sys.argv[1] not in TARGETS:
        sys.exit(f"{__doc__}\nTARGET: {', '.join(TARGETS)}")
    target, corpus = TARGETS[sys.argv[1]], Path(sys.argv[2])
    corpus.mkdir(parents=True, exist_ok=True)
    for number, example in enumerate(target.examples):
        (corpus / f"example-{number}").write_bytes(example)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    limits = ["-timeout=10", "-rss_limit_mb=2048", "-max_len=20000", f"-artifact_prefix={corpus}/"]
    atheris.Setup([sys.argv[0], *limits, str(corpus), *sys.argv[3:]], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
