"""The networks of this host: tunnels, bridges, routes and tasks' interfaces."""
