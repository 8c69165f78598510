"""Training: recipes, losses, the loop, its checkpoints, and the export of a bundle."""
