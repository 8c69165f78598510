"""Simulated patients: head CT with hemorrhage of known truth, its 24 h follow-up and the clinical picture."""
