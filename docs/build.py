"""Write the generated pages of docs/: lifecycle.md, from the hook table; lightning_names.md; recipes/index.md.

`python docs/build.py` writes them; `python docs/build.py --check` exits with 1 where one is out of date.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.names.compare import page as names
from lightkit import hooks
from lightkit.cli.shipped import describe

DOCS = Path(__file__).resolve().parent
WHO = {"D": "data module", "C": "callbacks", "M": "module", "D/M": "data module, else module"}

INTRO = """# Lifecycle

<!-- written by docs/build.py from lightkit/hooks.py; change it there -->

Every hook in the order in which it is called. **Who**: whose hook it is, in calling order. A callback's hook gets
`(trainer, module)` before the arguments shown. Override what you need: a hook that nobody overrides costs one truth
test. A test compares these tables with the calls of a real run.

Callbacks that save checkpoints come last, after the module's hook, when metrics are written and schedulers have moved:
what they save can be resumed exactly. Callbacks that watch a metric (`monitor`) get `on_train_epoch_end` after the
module's. On a resume in the middle of an epoch, `on_train_start` is called and `on_train_epoch_start` is not.

`configure_optimizers` may return an optimizer; a list of optimizers; two lists, optimizers and schedulers; a dict with
`optimizer` and `lr_scheduler`; a tuple of such dicts; or None. A scheduler may be a dict: `scheduler`, `interval`
("epoch" or "step"), `frequency`, `monitor`, `strict`, `name`.
"""

TITLES = {
    "fit": "`trainer.fit`",
    "validate": "`trainer.validate`",
    "test": "`trainer.test`",
    "predict": "`trainer.predict`",
    "any time": "At any time",
    "earlier style": "The earlier style (Lightning 0.7 to 1.9)",
}


def rows(block: hooks.Block, level: int = 0) -> list[str]:
    """One table row a hook, one a repeated block; indented by level."""
    indent = "&nbsp;&nbsp;&nbsp;" * level
    lines = []
    for step in block.steps:
        if isinstance(step, hooks.Block):
            lines.append(f"| {indent}*for each {step.each}* | | |")
            lines += rows(step, level + 1)
        else:
            who = WHO.get(step.owners) or ", ".join(WHO[owner] for owner in step.owners)
            lines.append(f"| {indent}`{step.name}({step.args})` | {who} | {step.doc} |")
    return lines


def lifecycle() -> str:
    """The page."""
    parts = [INTRO]
    blocks = (hooks.FIT, hooks.VALIDATE, hooks.TEST, hooks.PREDICT, hooks.ANYWHERE, hooks.LEGACY)
    for block in blocks:
        parts.append(f"## {TITLES[block.each]}\n")
        parts.append("\n".join(["| hook | who | what for |", "| --- | --- | --- |", *rows(block)]) + "\n")
    aliases = ", ".join(f"`{alias}` for `{name}`" for alias, name in hooks.LEGACY_ALIASES.items())
    parts.append(
        "Outputs are kept only where an `*_epoch_end(outputs)` hook is defined: detached, and on the CPU where the "
        f"module says `outputs_on_cpu = True`. Accepted names: {aliases}; defining both is an error.\n"
    )
    return "\n".join(parts)


RECIPES = """# Recipes

<!-- written by docs/build.py from configs/; change it there -->

Jobs to start from. Each is a YAML in `configs/`, a module and a data module in `recipes/`. Every key can be changed on
the command line: `lightkit fit vision/digits --model.lr 0.003 --trainer.max_epochs 5`.

| recipe | what | expect |
| --- | --- | --- |
"""

OWN_RECIPE = """
## A recipe of your own

```console
$ lightkit copy vision/digits my_project      # the YAML and the Python behind it, to change; overwrites nothing
$ cd my_project && lightkit fit digits.yaml
$ lightkit check digits.yaml                  # builds everything, runs two steps, reports all problems; writes nothing
```

`lightkit check` calls no `prepare_data`, so it downloads nothing. A data module may offer
`generate(root: Path, model: LightModule)`: write a small made-up set in its own layout below `root`, and read that one
from then on. It is asked where `setup` raises `lightkit.errors.MissingDataError`; without it missing data is a problem.

## Labels for one sentence, sound or picture

```console
$ lightkit predict --ckpt_path runs/ImageClassifier/version_0/checkpoints/last.ckpt --image a.png b.png
```

A module takes part with `raw_input = "text"` (or `"audio"`, `"image"`) and `predict_raw(raw)`, which returns
`(label, probability)` of all classes, most likely first, for one sentence or one path; what it needs for that
(vocabulary, class names, scales) goes into the checkpoint in `on_save_checkpoint`. The class is the one that the
checkpoint names, where it is one of lightkit's recipes; a class of yours is given, `--model package.Class`: nothing is
imported because a file names it.
"""


def expectation(text: str) -> str:
    """What a config's comment expects: the sentence that begins with Expect, without that word."""
    comment = " ".join(line[1:].strip() for line in text.splitlines() if line.startswith("#"))
    found = re.search(r"\b[Ee]xpect (.+?)[.](?: |$)", comment)
    return found.group(1) if found else ""


def recipes() -> str:
    """The list of configs, one row each."""
    configs = DOCS.parent / "configs"
    lines = []
    for path in sorted(configs.rglob("*.yaml"), key=lambda path: path.relative_to(configs).with_suffix("").as_posix()):
        name = path.relative_to(configs).with_suffix("").as_posix()
        page = f"{name.replace('/', '_')}.md"
        shown = f"[`{name}`]({page})" if (DOCS / "recipes" / page).is_file() else f"`{name}`"
        lines.append(f"| {shown} | {describe(path)} | {expectation(path.read_text(encoding='utf-8'))} |\n")
    return RECIPES + "".join(lines) + OWN_RECIPE


PAGES = {"lifecycle.md": lifecycle, "lightning_names.md": names, "recipes/index.md": recipes}


def main(arguments: list[str]) -> int:
    """Write or check every page."""
    stale = []
    for name, make in PAGES.items():
        path, text = DOCS / name, make()
        if "--check" in arguments:
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                stale.append(name)
        else:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path}")
    if stale:
        print(f"out of date: {', '.join(stale)}; run `make docs`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
