"""The earlier style of modules (0.7 to 1.9); nothing else in lightkit knows it."""
