"""The verbs of `compose` about single containers, and their logs."""
