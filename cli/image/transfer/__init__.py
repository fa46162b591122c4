"""The image verbs that copy images between the fleet's registry, nodes, files and registries."""
