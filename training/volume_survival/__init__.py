"""System C: training of the network that says volume and survival from one CT, without a mask."""
