"""HTML pages that need nothing beside them: one layout, one style, all text escaped."""

from __future__ import annotations

import base64
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def render_page(package: str, template: str, **values: Any) -> str:
    """The text of one HTML page that holds its style and loads nothing.

    **Arguments:** the package whose `templates` folder holds the template, which
    extends `page.html`; the template's file name; the values that it shows.

    **Returns:** the page. Values are escaped, so no text of theirs becomes markup.
    """
    environment = Environment(
        loader=ChoiceLoader(
            [PackageLoader(package), PackageLoader("hybrid_nds._core")]
        ),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def data_uri(png: bytes) -> str:
    """A PNG image as an address that holds the image itself."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
