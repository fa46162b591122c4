"""One end of `pyswarm net trace`: differences between plan and kernel, and probes."""
