"""One file a command; each has `prepare(arguments)`, where wrong input ends, and `run(prepared)`."""
