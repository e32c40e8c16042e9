"""The same programs with lightkit, with Lightning and as a hand-written loop: equal numbers, records and hook calls."""
