"""No base classes of hooks alone: a module's are LightModule's, those of data LightDataModule's."""

from lightkit.foreign_names import answering

__all__: list[str] = []


def __getattr__(name: str) -> object:
    return answering(__name__)(name)
