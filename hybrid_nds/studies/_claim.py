"""What a study asserts: one number, what it must be and why, what it was."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

Relation = Literal["=", "≤", "≥"]
RELATIONS: tuple[Relation, ...] = ("=", "≤", "≥")


@dataclasses.dataclass(frozen=True)
class Claim:
    """One claim of a study, with the measured value that it stands or falls by.

    **Arguments:**

    - `statement`: the claim in one sentence, for readers.
    - `expected`: the value that the theory gives, exact or published, or derived in
        code from a formula.
    - `source`: where the expected value comes from: paper and equation, or the
        closed form.
    - `measured`: what the study found.
    - `tolerance`: how far `measured` may lie on the wrong side of `expected`.
    - `reason`: how the tolerance was derived.
    - `relation`: `"="` asks for `|measured - expected| <= tolerance`, `"≤"` for
        `measured <= expected + tolerance`, `"≥"` for
        `measured >= expected - tolerance`.
    - `error`: the standard error of `measured` or a bound on its error, `None` where
        it is exact up to round-off.
    - `level`: for statistical claims, the probability that a true claim fails.

    **Raises:** `ValueError` for a tolerance that is negative or not finite, an expected
    value that is not finite, another relation, a level outside of (0, 1).
    """

    statement: str
    expected: float
    source: str
    measured: float
    tolerance: float
    reason: str
    relation: Relation = "="
    error: float | None = None
    level: float | None = None

    def __post_init__(self):
        for name in ("expected", "measured", "tolerance", "error", "level"):
            if (value := getattr(self, name)) is not None:
                # Arrays of one element and NumPy's numbers become plain floats.
                object.__setattr__(self, name, float(value))
        if not math.isfinite(self.tolerance) or self.tolerance < 0:
            raise ValueError(
                f"Claim: `tolerance` must be finite and not negative, got "
                f"{self.tolerance}, for the claim that {self.statement}."
            )
        if not math.isfinite(self.expected):
            raise ValueError(
                f"Claim: `expected` must be finite, got {self.expected}, for the claim "
                f"that {self.statement}."
            )
        if self.relation not in RELATIONS:
            raise ValueError(
                f"Claim: `relation` must be one of {', '.join(RELATIONS)}, got "
                f"{self.relation!r}."
            )
        if self.level is not None and not 0 < self.level < 1:
            raise ValueError(
                "Claim: `level` is the probability that a true claim fails, between 0 "
                f"and 1, got {self.level}."
            )

    @property
    def holds(self) -> bool:
        """Whether the measured value is where the claim says; NaN never is."""
        off = self.measured - self.expected
        if self.relation == "=":
            off = abs(off)
        elif self.relation == "≥":
            off = -off
        return bool(math.isfinite(self.measured) and off <= self.tolerance)

    def to_dict(self) -> dict[str, Any]:
        """The claim and its verdict as plain, JSON-ready data."""
        plain = dataclasses.asdict(self)
        for name in ("measured", "error"):
            # JSON has no NaN.
            if plain[name] is not None and not math.isfinite(plain[name]):
                plain[name] = None
        return {**plain, "holds": self.holds}

    @staticmethod
    def from_dict(plain: dict[str, Any]) -> Claim:
        """A claim from what `to_dict` gave.

        **Raises:** `TypeError` or `KeyError` for other data.
        """
        fields = {key: value for key, value in plain.items() if key != "holds"}
        measured = fields.pop("measured")
        return Claim(**fields, measured=math.nan if measured is None else measured)
