"""Tables: numbers or classes from the columns of a csv."""
