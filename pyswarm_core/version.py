"""This pyswarm's version, as installed or as in the checkout. SHELL: reads package metadata."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("pyswarm-scheduler")
except PackageNotFoundError:
    VERSION = "0.1.0.dev0"
