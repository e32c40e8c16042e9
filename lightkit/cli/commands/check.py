"""`lightkit check CONFIG`: build everything, run two steps, report all problems at once; nothing is kept."""

from __future__ import annotations

from lightkit.cli.dry_run import Findings, check
from lightkit.errors import ConfigError


def prepare(arguments: list[str]) -> Findings:
    """Do the check; raises ConfigError that lists every problem."""
    findings = check(arguments)
    count = len(findings.problems)
    if count:
        lines = [f"  {problem}" for problem in findings.problems]
        config = f"{arguments[0]}: " if arguments and not arguments[0].startswith("-") else ""
        raise ConfigError("\n".join([f"{config}{count} problem{'s' if count > 1 else ''}", *lines]))
    return findings


def run(findings: Findings) -> None:
    """Say what was looked at."""
    for line in findings.lines:
        print(line)
    print("no problems; nothing was written")
