"""The scales themselves: layouts, saved calibrations, their text form, and writing them into weights."""
