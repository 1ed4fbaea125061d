"""The version, in a file of its own: modules that record it do not import the package's public face."""

__version__ = "0.1.0"
