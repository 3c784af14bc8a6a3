"""Who may do what at a public studio: sign-in, quotas."""
