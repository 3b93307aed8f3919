"""What other people build on: public names, errors, and the documentation's promises."""

import pickle
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT
from pydantic import BaseModel

import moderation
from moderation import errors
from moderation.errors import ErrorCode, ModerationError
from moderation.settings import RunSettings

README = (ROOT / "README.md").read_text()


PUBLIC = [
    "Encoder",
    "ErrorCode",
    "ImageError",
    "ImageLimits",
    "ImageScorer",
    "Manifest",
    "ModelError",
    "ModerationError",
    "ObjectRef",
    "OpenClipEncoder",
    "Outcome",
    "OutputError",
    "Policy",
    "PolicyError",
    "QuarantinedError",
    "Rule",
    "RunError",
    "RunSettings",
    "ScoredBatch",
    "ScorerOptions",
    "SettingsError",
    "SourceError",
    "StorageError",
    "Store",
    "UserError",
    "load_policy",
    "run",
]
"""Other people build on these: a name that is added, renamed or removed is a decision, and a line in the changelog."""


def test_the_public_names_are_exactly_these() -> None:
    assert sorted(moderation.__all__) == PUBLIC
    assert sorted(dir(moderation)) == PUBLIC


def test_no_public_name_is_hidden_by_a_module_of_that_name() -> None:
    """Importing `moderation.run`, were there one, would make `moderation.run` the module."""
    modules = {module.name for module in pkgutil.iter_modules(moderation.__path__)}
    assert {"policy", "pipeline"} <= modules
    assert modules & set(moderation.__all__) == set()


def test_public_names_are_there_and_documented() -> None:
    for name in moderation.__all__:
        assert getattr(moderation, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        moderation.nonsense  # noqa: B018


def test_importing_moderation_brings_nothing_heavy_along() -> None:
    heavy = ("torch", "ray", "prefect", "great_expectations", "open_clip", "boto3", "pyarrow")
    script = f"import sys, moderation; print([n for n in {heavy!r} if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_the_driver_loads_no_torch() -> None:
    script = "import sys, flows.moderate; print([n for n in ('torch', 'open_clip', 'great_expectations') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def every_error() -> list[type[ModerationError]]:
    found, waiting = [], [ModerationError]
    while waiting:
        kind = waiting.pop()
        found.append(kind)
        waiting.extend(kind.__subclasses__())
    return [kind for kind in found if not kind.__name__.startswith("_")]


@pytest.mark.parametrize("kind", every_error())
def test_every_error_survives_pickling(kind: type[ModerationError]) -> None:
    coded = issubclass(kind, errors.StorageError | errors.ImageError)
    error = kind(ErrorCode.CORRUPT, "half a file") if coded else kind("what, where, what to do")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(again) is kind
    assert str(again) == str(error)
    assert again.__dict__ == error.__dict__


def test_every_setting_is_described_and_none_is_a_secret() -> None:
    def fields(model: type[BaseModel]) -> list[tuple[str, str | None]]:
        return [(name, field.description) for name, field in model.model_fields.items()]

    for name, description in fields(RunSettings):
        assert description, name
        assert not re.search("secret|password|token|credential|key", name)


def test_the_two_commands_stand_at_the_top_of_the_readme() -> None:
    first_screen = "\n".join(README.splitlines()[:40])
    assert "make demo" in first_screen
    assert "make test" in first_screen


def test_make_targets_in_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)", README)) - {"sure"}
    assert named
    assert named <= targets


def test_files_that_the_readme_links_to_exist() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_python_in_the_readme_runs(tmp_path: Path) -> None:
    """The notebook example, word for word, on a demo image."""
    from moderation.demo import IMAGES_DIR, POLICY_FILE

    (example,) = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "ImageScorer" in block]
    image = next(p for p in sorted((IMAGES_DIR / "listings").iterdir()) if p.suffix == ".png")
    code = example.replace("policy.yaml", str(POLICY_FILE)).replace("photo.jpg", str(image))
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert "not_found" in found.stdout


def test_every_error_code_is_documented_with_whether_it_may_pass() -> None:
    page = (ROOT / "docs" / "errors.md").read_text()
    rows = re.findall(r"^\| `([a-z_]+)` \|[^|]+\| (yes|no) \|[^|]+\|$", page, re.MULTILINE)
    assert dict(rows) == {code.value: "yes" if code.retryable else "no" for code in ErrorCode}
