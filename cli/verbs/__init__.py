"""Commands without a noun, one file per verb."""
