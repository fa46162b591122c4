"""Flags of `service create` and `service update` as a service's spec."""
