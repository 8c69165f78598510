"""The training loop that every system shares: recipe, numbered batches, checkpoints and journal."""
