"""Patients: first CT, follow-up CT, what is known of them and what became of them, for the four published systems."""
