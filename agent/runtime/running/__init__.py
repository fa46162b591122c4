"""Operations on a running container: run a command, pause, change limits."""
