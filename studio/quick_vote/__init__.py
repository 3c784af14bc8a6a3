"""The page Quick vote: blind votes of one person on two pictures."""
