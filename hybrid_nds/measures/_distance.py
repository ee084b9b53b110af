"""What a distance between two laws is worth."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Distance:
    """A distance between two laws, estimated from samples.

    **Fields:**

    - `name`: which distance.
    - `value`: its estimate.
    - `p_value`: how often samples of one law, put into two groups at random, lie at
        least as far apart (exact at every sample size: Phipson & Smyth 2010); `None`
        where no null level was asked for.
    - `samples`: how many of each were used.
    - `settings`: what else the number depends on.
    """

    name: str
    value: float
    p_value: float | None
    samples: tuple[int, int]
    settings: Mapping[str, Any]

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        level = "" if self.p_value is None else f", p = {self.p_value:.3g}"
        settings = ", ".join(
            f"{k} = {v:.4g}" if isinstance(v, float) else f"{k} = {v}"
            for k, v in self.settings.items()
        )
        words = f" ({settings})" if settings else ""
        n, m = self.samples
        return f"{self.name} = {self.value:.6g}{level}, {n} against {m} samples{words}"

    def to_dict(self) -> dict[str, Any]:
        """The distance as plain, JSON-ready data."""
        return dataclasses.asdict(self) | {"settings": dict(self.settings)}
