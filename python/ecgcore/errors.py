"""Errors a user can act on: one line each on the command line, one base to catch in a program."""

from __future__ import annotations


class EcgcoreError(Exception):
    """Base of every error that ecgcore raises on purpose, apart from plain argument errors."""


class ConfigError(EcgcoreError, ValueError):
    """A configuration file or value that cannot be used."""


class DataError(EcgcoreError, ValueError):
    """A record, a folder of records or an array of signals that cannot be used."""


class CheckpointError(EcgcoreError, ValueError):
    """A checkpoint that cannot be read, or that belongs to another model."""
