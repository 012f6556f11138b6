"""Older spellings of the same operation."""

from convopt.compat import v1

__all__ = ["v1"]
