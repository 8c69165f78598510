"""Performance side by side with peers, in one run, as ratios. Run with `make benchmark`."""
