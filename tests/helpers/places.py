"""Where things lie: the repository, its tests and documents, and the folders in which Python looks for the tests' modules."""

from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
DOCS = ROOT / "docs"
EXAMPLE_WORKFLOW = DOCS / "ci" / "moderation-policy.yml"
GOLDEN = TESTS / "golden"
SHARED = ROOT.parent / "shared"
MODULE_FOLDERS = sorted({str(file.parent) for file in TESTS.rglob("*.py")})
