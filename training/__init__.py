"""Simulated patients, importers, recipes and evaluation: what makes a bundle. The daemon never imports it."""
