"""The gRPC services of a controller: control (users), dispatcher (agents), tunnels, health."""
