"""How the reference reads the package, where that is not how Griffe does."""

import ast
from typing import Any

import griffe


class Exports(griffe.Extension):
    """Marks names imported under their own name as public, as type checkers do."""

    def on_alias_instance(
        self, *, node: ast.AST | griffe.ObjectNode, alias: griffe.Alias, **kwargs: Any
    ) -> None:
        """Mark one imported name."""
        if isinstance(node, ast.ImportFrom):
            same = {one.name for one in node.names if one.asname == one.name}
            alias.public = alias.name in same

    def on_attribute_instance(self, *, attr: griffe.Attribute, **kwargs: Any) -> None:
        """Keep class variables without a type out of the arguments of dataclasses."""
        if str(attr.annotation) == "ClassVar":
            attr.annotation = None
