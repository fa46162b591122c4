"""What pyswarm takes of time, processor and memory, measured beside what it is held to."""
