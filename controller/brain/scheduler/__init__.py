"""Which node a task runs on."""
