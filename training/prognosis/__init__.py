"""System B: training of the network that says outcome, consciousness and age from one CT."""
