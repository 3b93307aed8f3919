"""How the pages are filled in: everything is escaped, and nothing in a name is hidden."""

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from moderation.common.safe_text import visible

_PACKAGE = "moderation.html"


def template(name: str, filters: Mapping[str, Callable[..., Any]], package: str = _PACKAGE) -> Template:
    """A template of `pages/`. A name that it uses and is not given is an error. `package`: whose `pages/` come first."""
    packages = dict.fromkeys((package, _PACKAGE))
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(one, "pages") for one in packages]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    return environment.get_template(name)


def _finalize(value: object) -> object:
    """Applied to every expression of a template, before it is escaped."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
