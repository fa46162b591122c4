"""The verbs of `compose` that list what a project has."""
