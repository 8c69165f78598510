"""From a volume to a prediction and findings: bundles, predictor, supervised child process."""
