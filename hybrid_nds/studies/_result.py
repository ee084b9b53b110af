"""What a study found, on every backend it ran on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from .._core import DrawnResult, Panels, Variable, names_of, record_variables
from ._findings import Findings
from ._study import Study


@dataclasses.dataclass(frozen=True)
class StudyResult(DrawnResult):
    """The findings of one study by backend, and what they depend on.

    **Fields:** `study`; `preset`, `"custom"` for a configuration of one's own;
    `config`; `findings` by backend; `missing`, why a backend of the study did not run,
    by backend; `errors`, what stopped a backend, by backend; `versions` by name.
    """

    study: Study
    preset: str
    config: Any
    findings: Mapping[str, Findings]
    missing: Mapping[str, str]
    errors: Mapping[str, str]
    versions: Mapping[str, str]

    @property
    def ran(self) -> bool:
        """Whether any backend ran, to the end or not."""
        return bool(self.findings or self.errors)

    @property
    def passed(self) -> bool:
        """Whether it ran on a backend, none was stopped, and all claims hold."""
        whole = self.ran and not self.errors
        return whole and all(found.passed for found in self.findings.values())

    def draw(self, panels: Panels) -> None:
        if not self.findings:
            raise ValueError(
                f"study {self.study.name!r} has no findings to draw; it ran on no "
                "backend."
            )
        self.study.draw(panels.whole(), self.config, self.findings)

    def variables(self) -> Mapping[str, Variable]:
        """The claims, a column each property, and the arrays of the figure.

        Claims have the dimension `claim`, with their backends in a column; an array
        `name` of a backend's figure is `backend.name`.
        """
        backends = [b for b, found in self.findings.items() for _ in found.claims]
        claims = [claim for found in self.findings.values() for claim in found.claims]
        columns = record_variables(claims, "claim", "")
        data = {
            f"{b}.{name}": Variable(names_of(None, x.ndim, f"{b}.{name}"), x)
            for b, found in self.findings.items()
            for name, x in found.data.items()
        }
        of = {"backend": Variable(("claim",), np.array(backends, str))}
        return of | columns | data

    def attributes(self) -> Mapping[str, Any]:
        """What stands beside the numbers: the study, its configuration, versions."""
        return {
            "study": self.study.name,
            "config": json.dumps(dataclasses.asdict(self.config), default=str),
            **super().attributes(),
        }

    def rows(self) -> list[tuple[str, dict[str, Any]]]:
        """Claims with one statement side by side: statement, and claims by backend."""
        rows: dict[str, dict[str, Any]] = {}
        for backend, found in self.findings.items():
            for claim in found.claims:
                rows.setdefault(claim.statement, {})[backend] = claim
        return list(rows.items())

    def to_dict(self) -> dict[str, Any]:
        """The result as plain, JSON-ready data; arrays stay in the files beside it."""
        config = dataclasses.asdict(self.config)
        return {
            "schema": 1,
            "study": self.study.name,
            "title": self.study.title,
            "direction": self.study.direction,
            "source": self.study.source,
            "preset": self.preset,
            "config": json.loads(json.dumps(config, default=str)),
            "passed": self.passed,
            "versions": dict(self.versions),
            "missing": dict(self.missing),
            "errors": dict(self.errors),
            "findings": {
                backend: {
                    "passed": found.passed,
                    "claims": [claim.to_dict() for claim in found.claims],
                    "notes": list(found.notes),
                }
                for backend, found in self.findings.items()
            },
        }

    def summary(self) -> str:
        lines = [f"{self.study.title} ({self.study.name}, {self.preset})"]
        for backend, found in self.findings.items():
            for claim in found.claims:
                mark = "holds" if claim.holds else "FAILS"
                error = "" if claim.error is None else f" ± {claim.error:.2g}"
                lines.append(
                    f"  {backend}: {claim.statement}: {claim.measured:.6g}{error} "
                    f"({claim.relation} {claim.expected:.6g}, within "
                    f"{claim.tolerance:.2g}): {mark}"
                )
        lines += [f"  {name}: not run, {why}" for name, why in self.missing.items()]
        lines += [f"  {name}: stopped, {why}" for name, why in self.errors.items()]
        return "\n".join(lines)
