"""HTTP: metrics, health and the jobs API."""
