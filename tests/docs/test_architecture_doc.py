"""docs/architecture.md and CONTRIBUTING.md say what is so: packages, files, layers, make targets and links."""

import re
import tomllib

import pytest
from places import ROOT

ARCHITECTURE, CONTRIBUTING, README = "docs/architecture.md", "CONTRIBUTING.md", "README.md"
TEXT = {name: (ROOT / name).read_text(encoding="utf-8") for name in (ARCHITECTURE, CONTRIBUTING, README)}
TREE = TEXT[ARCHITECTURE].split("\n## The tree\n")[1].split("\n## ")[0]


def test_every_package_and_every_module_beside_them_is_in_the_tree() -> None:
    beside = {path for path in (ROOT / "moderation").iterdir() if path.suffix == ".py" and path.name != "__init__.py"}
    packages = {path.parent for path in (ROOT / "moderation").glob("*/__init__.py")} | {ROOT / "flows"}
    wanted = {str(path.relative_to(ROOT)) for path in beside | packages}
    named = set(re.findall(r"`([^`]+)`", "".join(re.findall(r"^\| ([^|]+) \|", TREE, re.MULTILINE))))
    assert named == wanted


@pytest.mark.parametrize("page", TEXT)
def test_files_that_a_page_names_exist(page: str) -> None:
    pattern = r"[`(]((?:moderation|flows|tests|docs|policies|benchmarks|docker|\.ci)/[\w./-]+)[`)]"
    paths = set(re.findall(pattern, TEXT[page]))
    assert paths
    assert sorted(path for path in paths if not (ROOT / path).exists()) == []


def test_the_picture_of_layers_is_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    drawn = TEXT[ARCHITECTURE].split("\n## Who may import whom\n")[1].split("```\n")[1]
    assert drawn.splitlines() == [layer.replace("moderation.", "").replace(" | ", " │ ") for layer in layers]


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in (ARCHITECTURE, CONTRIBUTING):
        named = set(re.findall(r"(?:`|^)make ([a-z0-9-]+)", TEXT[page], re.MULTILINE))
        assert named
        assert named <= targets


def anchors(page: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "page", [README, CONTRIBUTING, *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
)
def test_links_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(str(target.resolve().relative_to(ROOT))), link


def test_a_word_of_the_glossary_has_one_meaning() -> None:
    glossary = TEXT[ARCHITECTURE].split("\n## Glossary\n")[1]
    words = re.findall(r"^\| ([^|]+?) \|", glossary, re.MULTILINE)[2:]
    assert len(words) >= 25
    assert len(words) == len(set(words))
