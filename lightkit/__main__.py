"""`python -m lightkit`: the same as the command `lightkit`."""

from lightkit.cli.main import main

raise SystemExit(main())
