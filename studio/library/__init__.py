"""The page Library: saved calibrations, their pictures and files."""
