"""The page Diagnose: sweeps, which change one scale at a time."""
