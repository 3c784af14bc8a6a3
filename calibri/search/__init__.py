"""Gradient-free search for calibrations. Import what you need from its modules; nothing is imported here."""
