"""Who runs this process: by name, and as the audit trail tells it."""

import getpass
import os


def user_name() -> str:
    """The name; where the user has none, as in some containers, the number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def at_the_shell() -> str:
    """Who gave a command; with sudo, also who stands behind the user."""
    person = os.environ.get("SUDO_USER")
    return f"command line: {user_name()}{f', sudo by {person}' if person else ''}"
