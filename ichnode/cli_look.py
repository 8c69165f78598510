"""Commands that look at an installation and at a node, and change neither: parse and print only."""

from dataclasses import asdict

import typer

from ichnode.config import load_settings
from ichnode.errors import ConfigError
from ichnode.terminal import ConfigOption, JsonOption, print_json

_DOCTOR_EPILOG = """Examples:

\b
  ichnode doctor --config /etc/ichnode/ichnode.toml       as the user of the service: sudo -u ichnode ...
  ichnode doctor --json | jq '.[] | select(.level != "ok")'

Exit code: 0 without failures (warnings are none), 1 with any.
"""


def add_to(app: typer.Typer) -> None:
    """Put the commands of this module into the command line."""
    app.command(epilog=_DOCTOR_EPILOG)(doctor)


def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Examine the installation, before the node runs or while it does; what is wrong comes with what to do.

    Configuration, ports, destinations (C-ECHO and which result SOP classes they accept; DICOMweb by OPTIONS), audit
    collector, certificates, disk, database, clock, device and bundles. No patient data is sent, nothing is stored.
    """
    from ichnode.doctor import Check, Level, examine
    from ichnode.doctor.check import failure

    found: list[Check] = []
    try:
        settings = load_settings(config)
    except ConfigError as problem:
        fix = "edit the configuration; `ichnode init` writes a commented example"
        found = [failure("configuration", line, fix) for line in problem.problems]
    checks = iter(found) if found else examine(settings)
    found = []
    for check in checks:
        found.append(check)
        if not as_json:
            typer.echo(f"{check.level:<8} {check.name}: {check.detail}")
            if check.fix:
                typer.echo(f"{'':8} fix: {check.fix}")
    failures = sum(check.level is Level.FAILURE for check in found)
    warnings = sum(check.level is Level.WARNING for check in found)
    if as_json:
        print_json([asdict(check) for check in found])
    else:
        typer.echo(f"{len(found)} checks, {warnings} warnings, {failures} failures")
    if failures:
        raise typer.Exit(1)
