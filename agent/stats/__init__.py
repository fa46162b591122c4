"""What the containers of this host use: for `pyswarm stats`, and as metrics."""
