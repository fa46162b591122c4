"""How the CLI calls a controller, whatever the call is."""
