"""Patients with known truth, simulated or real: one JSONL manifest, and an importer for each public data set."""
