"""The whole app: all pages behind one door, the bar over them, and the endpoints for programs."""
