"""Calibri: a few dozen scales on a Diffusion Transformer's branches, found by gradient-free search."""

__version__ = "0.1.0"
