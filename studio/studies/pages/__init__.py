"""The pages of studies: manage, new, vote, results."""
