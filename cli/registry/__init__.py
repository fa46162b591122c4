"""The fleet's registry, for commands of images: `cli.registry.opening.opened`."""
