"""The verbs of secrets and configs, which are alike."""
