"""The page Compare: arms side by side on the same prompt, seed and noise."""
