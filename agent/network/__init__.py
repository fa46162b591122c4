"""A host's network: overlays, the tasks' network namespaces, and the rules that keep networks apart."""
