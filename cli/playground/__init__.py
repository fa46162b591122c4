"""`pyswarm playground`: a whole fleet on one machine, each host a network namespace with its own
agent.
"""
