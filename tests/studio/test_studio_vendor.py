"""What comes from npm: the files that are checked in are of the versions in the lock, each with its licence."""

import json
import re

from places import ROOT

VENDOR = ROOT / "moderation" / "studio" / "static" / "vendor"
LOCK = json.loads((ROOT / "web" / "package-lock.json").read_text())["packages"]


def test_every_package_that_is_shipped_has_its_licence() -> None:
    text = (VENDOR / "LICENSES.txt").read_text()
    shipped = {
        f"{path.rpartition('node_modules/')[2]} {entry['version']} ({entry['license']})"
        for path, entry in LOCK.items()
        if path and not entry.get("dev") and not entry.get("optional")
    }
    assert len(shipped) > 10
    assert set(re.findall(r"^=+\n(.+)\n", text, re.MULTILINE)) == shipped
    assert {entry.rpartition("(")[2] for entry in shipped} <= {"MIT)", "0BSD)"}


def test_the_lock_names_every_package_by_its_hash() -> None:
    assert all("integrity" in entry for path, entry in LOCK.items() if path)


def test_files_are_of_the_versions_in_the_lock() -> None:
    assert f'version:"{LOCK["node_modules/htmx.org"]["version"]}"' in (VENDOR / "htmx.js").read_text()
    assert {path.name for path in VENDOR.iterdir()} == {"LICENSES.txt", "codemirror.js", "htmx.js"}


def test_no_file_asks_for_anything_elsewhere_or_makes_code_of_text() -> None:
    editor = (VENDOR / "codemirror.js").read_text()
    assert not re.search(r"https?://(?!www\.w3\.org)", editor)
    assert not re.search(r"\beval\(|new Function\(", editor)
