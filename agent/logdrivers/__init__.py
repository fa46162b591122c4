"""Log drivers: the limits of a container's log, and forwarding it to the journal or to syslog."""
