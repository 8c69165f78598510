"""System A: training of the network that says the next CT and whether it shows hemorrhage."""
