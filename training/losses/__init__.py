"""What training minimises, and how tasks share one network."""
