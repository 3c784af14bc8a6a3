"""The embedded world: coloured solids on a table, their captions, and the recipe that trains the backbone
on them.
"""
