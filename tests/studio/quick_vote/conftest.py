"""Quick votes are kept like those of studies, in a small data folder."""

from tests.studio.studies.conftest import world

__all__ = ["world"]
