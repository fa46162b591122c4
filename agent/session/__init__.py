"""The agent's session with the leader: identity, reports and assignments, tunnels."""
