"""Use cases of stacks."""
