"""The one loaded backbone and its rewards: who may use them, when, and how fast they are."""
