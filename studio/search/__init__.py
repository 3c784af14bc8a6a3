"""The page Search: runs, their settings, charts and film strips."""
