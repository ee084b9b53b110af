"""What one run of a study on one backend found."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ._claim import Claim


@dataclasses.dataclass(frozen=True)
class Findings:
    """The claims of a study with their verdicts, and the arrays of its figure.

    **Arguments:**

    - `claims`: at least one [`Claim`][hybrid_nds.studies.Claim].
    - `data`: by name, the numbers and arrays that the figure is drawn from; kept with
        the result, so that a figure is drawn again without a run.
    - `notes`: what a reader should know beside them, a sentence each.

    **Raises:** `ValueError` without claims, or for two claims with one statement;
    `TypeError` for claims or data that are something else.
    """

    claims: Sequence[Claim]
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    notes: Sequence[str] = ()

    def __post_init__(self):
        claims = tuple(self.claims)
        if not claims:
            raise ValueError("Findings: `claims` is empty; a study claims something.")
        for claim in claims:
            if not isinstance(claim, Claim):
                raise TypeError(
                    "Findings: `claims` must hold Claim objects, got "
                    f"{type(claim).__name__}."
                )
        statements = [claim.statement for claim in claims]
        twice = [text for text in statements if statements.count(text) > 1]
        if twice:
            raise ValueError(
                "Findings: every claim needs a statement of its own, by which reports "
                f"set backends side by side; {twice[0]!r} is there twice."
            )
        data = {name: np.asarray(value) for name, value in self.data.items()}
        for name, array in data.items():
            if array.dtype == object:
                raise TypeError(
                    f"Findings: `data[{name!r}]` must be an array of numbers or texts, "
                    "got one of Python objects."
                )
        object.__setattr__(self, "claims", claims)
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "notes", tuple(str(note) for note in self.notes))

    @property
    def passed(self) -> bool:
        """Whether all claims hold."""
        return all(claim.holds for claim in self.claims)
