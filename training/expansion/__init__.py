"""System D: training of the network that says how a hematoma will look the next day."""
