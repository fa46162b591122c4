"""The pure parts of the agent's network, and the contract of every Dataplane."""
