"""One turn of each loop of the node, everything injected."""
