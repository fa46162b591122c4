"""The words that controller, agent and CLI share: ids, specs, objects, states, the state index and
the wire codec.
"""
