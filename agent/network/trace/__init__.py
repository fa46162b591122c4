"""One end's share of `pyswarm net trace`: what the kernel lacks of the plan, and probes."""
