"""From scales and prompts to pictures."""
