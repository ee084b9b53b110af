"""A study: a question, a configuration, a run on a backend, a figure."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import sys
import typing
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from .._core import PortableResult
from ._findings import Findings
from ._sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Direction = Literal["continuous models", "discretization", "algorithms"]
Preset = Literal["default", "quick", "paper"]
BACKENDS = ("diffrax", "julia")
DIRECTIONS: tuple[Direction, ...] = typing.get_args(Direction)
PRESETS: tuple[Preset, ...] = typing.get_args(Preset)

Run = Callable[[Any, Any, Sweep], Findings]
Draw = Callable[["Figure", Any, Mapping[str, Findings]], None]


class Study(PortableResult):
    """One named experiment; made by [`study`][hybrid_nds.studies.study].

    **Fields:** `name`; `title`; `direction`; `source`, the papers behind its claims;
    `backends`, those that can run it; `presets`, a configuration each for `"default"`,
    `"quick"` and `"paper"`; `text`, its question and method, in Markdown.
    """

    def __init__(
        self,
        run: Run,
        *,
        title: str,
        direction: Direction,
        source: str,
        backends: tuple[str, ...],
        presets: Mapping[Preset, Any],
    ):
        self.name = run.__name__
        self.title = title
        self.direction = direction
        self.source = source
        self.backends = backends
        self.presets = dict(presets)
        self.text = inspect.cleandoc(run.__doc__ or "")
        self.module = run.__module__
        self._run = run
        self._draw: Draw | None = None

    @property
    def question(self) -> str:
        """The first paragraph of what it says of itself."""
        return " ".join(self.text.partition("\n\n")[0].split())

    def figure(self, draw: Draw) -> Draw:
        """Say how the study is drawn; used as a decorator.

        **Arguments:** `draw(figure, config, findings)` fills an empty matplotlib figure
        from the findings by backend.
        """
        self._draw = draw
        return draw

    def run(self, config: Any, backend: str, sweep: Sweep) -> Findings:
        """Run the study on one backend.

        **Raises:** `TypeError` where the study returns something else than findings.
        """
        findings = self._run(config, backend, sweep)
        if not isinstance(findings, Findings):
            raise TypeError(
                f"study {self.name!r} must return Findings, got "
                f"{type(findings).__name__}."
            )
        return findings

    def draw(
        self, figure: Figure, config: Any, findings: Mapping[str, Findings]
    ) -> None:
        """Fill an empty figure from the findings by backend.

        **Raises:** `TypeError` for a study without a figure.
        """
        if self._draw is None:
            raise TypeError(
                f"study {self.name!r} has no figure; decorate a function "
                f"`draw(figure, config, findings)` with @{self.name}.figure."
            )
        self._draw(figure, config, findings)

    def __reduce__(self) -> tuple[Any, ...]:
        # By its name where it has one, so that it is the same study there.
        known = vars(sys.modules.get(self.module, object)).get(self.name)
        if known is self and self.module != "__main__":
            return _named, (self.module, self.name)
        return super().__reduce__()

    def __repr__(self) -> str:
        return f"<study {self.name}: {self.title}>"


def _named(module: str, name: str) -> Study:
    return getattr(importlib.import_module(module), name)


def study(
    *,
    title: str,
    direction: Direction,
    source: str,
    backends: tuple[str, ...] = BACKENDS,
    quick: Any = None,
    paper: Any = None,
) -> Callable[[Run], Study]:
    """Make a study of a function `run(config, backend, sweep) -> Findings`.

    Its first parameter is annotated with a frozen dataclass whose fields all have
    defaults: the default configuration. Its docstring tells the question in the first
    sentence, and the method below; it becomes the study's page.

    **Arguments:**

    - `title`: a line for tables.
    - `direction`: `"continuous models"`, `"discretization"` or `"algorithms"`.
    - `source`: the papers and equations behind the claims.
    - `backends`: those that can run it, of `"diffrax"` and `"julia"`.
    - `quick`: the configuration of a run of seconds, for tests; the default's own
        where left out.
    - `paper`: the configuration of a larger machine, likewise.

    **Returns:** a decorator that gives a [`Study`][hybrid_nds.studies.Study] of the
    function's name.

    **Raises:** `ValueError` or `TypeError` that says what of it is amiss.
    """
    if direction not in DIRECTIONS:
        raise ValueError(
            f"study: `direction` must be one of {', '.join(DIRECTIONS)}, got "
            f"{direction!r}."
        )
    unknown = [name for name in backends if name not in BACKENDS]
    if not backends or unknown:
        raise ValueError(
            f"study: `backends` must be some of {', '.join(BACKENDS)}, got {backends}."
        )

    def decorate(run: Run) -> Study:
        config_type = _config_type(run)
        default = config_type()
        presets: dict[Preset, Any] = {"default": default}
        given: tuple[tuple[Preset, Any], ...] = (("quick", quick), ("paper", paper))
        for name, config in given:
            if config is not None and not isinstance(config, config_type):
                raise TypeError(
                    f"study {run.__name__!r}: `{name}` must be a "
                    f"{config_type.__name__}, got {type(config).__name__}."
                )
            presets[name] = default if config is None else config
        if not inspect.getdoc(run):
            raise ValueError(
                f"study {run.__name__!r} needs a docstring: its question and method."
            )
        return Study(
            run,
            title=title,
            direction=direction,
            source=source,
            backends=tuple(backends),
            presets=presets,
        )

    return decorate


def _config_type(run: Run) -> type:
    """The dataclass that the first parameter is annotated with."""
    parameters = list(inspect.signature(run).parameters)
    if len(parameters) != 3:
        raise TypeError(
            f"study {run.__name__!r} must take (config, backend, sweep), got "
            f"({', '.join(parameters)})."
        )
    annotation: Any = typing.get_type_hints(run).get(parameters[0])
    frozen = getattr(getattr(annotation, "__dataclass_params__", None), "frozen", False)
    if not frozen:
        raise TypeError(
            f"study {run.__name__!r}: `{parameters[0]}` must be annotated with a "
            f"frozen dataclass, got {annotation!r}."
        )
    needy = [
        field.name
        for field in dataclasses.fields(annotation)
        if field.init
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if needy:
        raise TypeError(
            f"study {run.__name__!r}: all fields of {annotation.__name__} need "
            f"defaults; {', '.join(needy)} has none."
        )
    return annotation
