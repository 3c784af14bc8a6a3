"""Layouts: granularity → ordered names → sites. No torch."""

from calibri.backbones.layouts import GRANULARITIES, Granularity, Layout

__all__ = ["GRANULARITIES", "Granularity", "Layout"]
