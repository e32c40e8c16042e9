"""A run from its first hook to its last: one object for each call of fit, validate, test or predict."""
