"""The agent's side of the conversation with the leader: who it is, what it says and
what it is told.
"""
