"""The fleet's registry of images. PURE."""
