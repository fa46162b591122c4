"""`pyswarm build`: contexts, buildah on this machine, its output, and what is pushed."""
