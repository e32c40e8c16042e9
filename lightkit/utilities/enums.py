"""Words that are compared with their text."""

from __future__ import annotations

from enum import Enum, StrEnum

from lightkit.errors import ConfigError, did_you_mean


class LightningEnum(str, Enum):  # noqa: UP042 - not a StrEnum: its text is `Kind.NAME`, as Lightning's
    """Words that are equal to their text, upper and lower case alike."""

    @classmethod
    def from_str(cls, value: str) -> LightningEnum:
        """The member of this name or value; raises ConfigError where there is none."""
        for member in cls:
            if value.casefold() in (member.name.casefold(), member.value.casefold()):
                return member
        names = [member.value for member in cls]
        hint = did_you_mean(value, names)
        raise ConfigError(f"{cls.__name__}: expected one of {', '.join(names)}, got {value!r}{hint}")

    def __eq__(self, other: object) -> bool:
        return self.value.casefold() == str(getattr(other, "value", other)).casefold()

    def __hash__(self) -> int:
        return hash(self.value.casefold())


class GradClipAlgorithmType(StrEnum):
    """How gradients are clipped: each value, or all together by their norm."""

    VALUE = "value"
    NORM = "norm"

    @staticmethod
    def supported_type(val: str) -> bool:
        """Whether it is one of them."""
        return val in ("value", "norm")

    @staticmethod
    def supported_types() -> list[str]:
        """All of them."""
        return ["value", "norm"]
