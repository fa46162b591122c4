"""The pure parts of the agent's network, and the contract every Dataplane keeps."""
