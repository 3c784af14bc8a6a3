"""One vote: which pair a rater sees next, the ballot, and how it is cast."""
