"""The verbs of `compose` that make services of the files: build, apply, run."""
