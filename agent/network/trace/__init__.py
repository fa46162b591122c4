"""One end's share of `pyswarm net trace`: what the kernel holds, and what goes through."""
