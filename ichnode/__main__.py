"""`python -m ichnode`: the command line."""

from ichnode.cli import app

app()
