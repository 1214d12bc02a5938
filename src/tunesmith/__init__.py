"""Tunesmith fine-tunes language models, small ones first, on the compute its user has."""

__version__ = "0.1.0"
