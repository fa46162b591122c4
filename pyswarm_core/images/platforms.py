"""The platforms of images. PURE values."""

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
"""Go's words for those of uname."""
