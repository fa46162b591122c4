"""The leader and the store: winning and keeping a term, saving what changed, loading everything."""
