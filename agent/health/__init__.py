"""Health and readiness checks of tasks: configuration, verdict, schedule, probes."""
