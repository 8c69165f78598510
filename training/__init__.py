"""Simulated patients, importers, recipes and evaluation: what makes a bundle. The daemon never imports it."""

import ichnode  # noqa: F401 - says how OpenMP waits, before torch is loaded
