"""A setting's default stands once, and reaches whoever uses it."""

import inspect
from dataclasses import fields
from typing import Any

import pytest

from moderation import RunSettings
from moderation.cli import run
from moderation.images.limits import ImageLimits
from moderation.scoring.options import ScorerOptions

OPTIONS = inspect.signature(run).parameters
OTHERS = {
    "limits": ImageLimits(max_pixels=1000),
    "fetch_threads": 3,
    "decode_threads": 5,
    "jpeg_decoder": "gpu",
}
"""A value that is not the default, for every option of a scorer."""


def settings(**values: Any) -> RunSettings:
    return RunSettings(sources="images", policy="policy.yaml", output="out", **values)


def test_settings_and_scorers_have_the_same_defaults() -> None:
    assert settings().scorer_options == ScorerOptions()


@pytest.mark.parametrize("option", fields(ScorerOptions), ids=lambda option: option.name)
def test_every_option_of_a_scorer_is_a_setting_that_reaches_it(option: Any) -> None:
    value = OTHERS[option.name]
    assert value != getattr(ScorerOptions(), option.name)
    assert getattr(settings(**{option.name: value}).scorer_options, option.name) == value


@pytest.mark.parametrize("name", sorted(RunSettings.model_fields.keys() - {"limits"}))
def test_every_setting_is_an_option_of_the_command_with_the_same_default(name: str) -> None:
    default, given = RunSettings.model_fields[name].get_default(), OPTIONS[name].default
    assert given == default or (given is None and default == ()) or given is inspect.Parameter.empty


@pytest.mark.parametrize("name", ImageLimits.model_fields)
def test_every_limit_is_an_option_of_the_command_with_the_same_default(name: str) -> None:
    default, given = getattr(ImageLimits(), name), OPTIONS[name].default
    assert given == default or (given, default) == ("", ())
