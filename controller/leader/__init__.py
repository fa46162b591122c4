"""One term of leadership: turns of deciding and saving, sessions of agents, events, watches."""
