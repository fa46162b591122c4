"""The leader's use of the store: elections, saving changes, loading the state."""
