"""Which diffusers pipelines there are, and where in their transformers a branch can be scaled."""
