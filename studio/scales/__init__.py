"""The page Scales: the mixing desk."""
