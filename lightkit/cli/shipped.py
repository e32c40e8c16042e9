"""The configs that come with lightkit: where they are, what they are called, what each is for."""

from __future__ import annotations

from pathlib import Path

from lightkit.errors import ConfigError, nearest

SUFFIXES = (".yaml", ".yml")
PACKAGE = Path(__file__).resolve().parent.parent


def config_folders() -> list[Path]:
    """Where shipped configs are looked for, first match wins.

    The checkout one stands in, the checkout that lightkit was imported from, the installed package.
    """
    checkouts = [root for root in (Path.cwd(), PACKAGE.parent) if (root / "lightkit" / "__init__.py").is_file()]
    folders = dict.fromkeys(root / "configs" for root in (*checkouts, PACKAGE))
    return [folder for folder in folders if folder.is_dir()]


def shipped_configs() -> dict[str, Path]:
    """Every shipped config, name ("vision/digits") to file, sorted by name."""
    found: dict[str, Path] = {}
    for folder in config_folders():
        for path in folder.rglob("*"):
            if path.suffix in SUFFIXES and path.is_file():
                found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), path)
    return dict(sorted(found.items()))


def find_config(name: str) -> Path:
    """Return the file that CONFIG means: a path, or else the name of a shipped config.

    Raises ConfigError that lists the near names where there is neither.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    shipped = shipped_configs()
    plain = name.removesuffix(".yaml").removesuffix(".yml").removeprefix("configs/")
    if plain in shipped:
        return shipped[plain]
    if path.is_dir():
        raise ConfigError(f"config {name!r}: this is a folder, give a YAML file in it")
    likely = nearest(plain, shipped)
    if likely is None:  # `digits` means `vision/digits`
        endings = {known.rpartition("/")[2]: known for known in shipped}
        likely = endings.get(nearest(plain.rpartition("/")[2], endings) or "")
    meant = f"; did you mean {likely!r}?" if likely else ""
    names = ", ".join(shipped) or "none"
    raise ConfigError(f"config {name!r}: neither a file nor a shipped config{meant} (shipped: {names})")


def describe(path: Path) -> str:
    """Return the one line that says what a config does: its `description:`, else its first comment."""
    import yaml

    from lightkit.plain_yaml import compose

    text = path.read_text(encoding="utf-8-sig")
    try:
        root = compose(text)
    except yaml.YAMLError:
        return "(not valid YAML)"
    for key, value in getattr(root, "value", None) or []:
        if getattr(key, "value", None) == "description" and isinstance(value.value, str):
            return " ".join(value.value.split())
    first = text.lstrip().partition("\n")[0]
    return first.lstrip("# ").strip() if first.startswith("#") else ""
