"""How good is a bundle: figures with intervals, on patients with known truth, beside simpler ways to do the same."""
