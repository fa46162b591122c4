"""Which tasks a service should have."""
