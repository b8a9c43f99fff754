"""The version of omnivec."""

VERSION = "0.1.0"
