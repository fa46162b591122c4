"""Templates in specs."""
