"""Docker Swarm and pyswarm, both on this machine at once, measured in turns by the same code."""
