"""The recipe: `python -m calibri.tabletop.train --stage …`. Every stage resumes from its checkpoint."""
