"""What the containers of services and tasks use, sampled by their nodes."""
