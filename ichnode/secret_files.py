"""Files that hold a secret, one each: a token or a password. Blanks and line ends around it are no part of it."""

from pathlib import Path


def read_secret(file: Path) -> str:
    """The secret. Raises OSError, and ValueError for a file that holds none."""
    try:
        secret = file.read_text("utf-8").strip()
    except UnicodeDecodeError:
        raise ValueError("not text") from None
    if not secret:
        raise ValueError("empty")
    return secret
