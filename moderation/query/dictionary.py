"""The data dictionary, made of the schemas. Pure; `docs/data-dictionary.md` is what it says."""

import pyarrow as pa

from moderation.query.view_runs import RUNS
from moderation.results import schemas
from moderation.reviews.appeal import APPEALS
from moderation.reviews.schema import REVIEWS

_HEAD = f"""# Data dictionary

Every table and column of the results. Schema version {schemas.VERSION}. [analysts.md](analysts.md) explains how to read them.

A schema only ever gains nullable columns: `since` is the schema version that added a column; files of an earlier version
do not have it. A file's metadata has its `schema_version`, and each field's metadata has the column's description.

This page is generated from the schemas: `moderate results dictionary > docs/data-dictionary.md`.
"""

_FOLDERS = """
## In the folders' names

Readers of hive partitions add these columns; the views of `moderate query` have them too, at the end.

| column | tables | type | description |
|---|---|---|---|
| `date` | all | `date` | the day the run started, UTC; of `reviews` and `appeals`, the day the rows were added |
| `run` | all but these two | `string` | same as `run_id` |
| `model` | embeddings | `string` | the model's fingerprint; called `model_fingerprint` in the view |
"""


def dictionary() -> str:
    """All tables in Markdown: description, then a row per column."""
    tables = (schemas.DECISIONS, schemas.SCORES, schemas.embeddings(1))
    return "\n".join([_HEAD, *map(_section, tables)]) + _FOLDERS + "\n" + "\n".join(map(_section, (RUNS, REVIEWS, APPEALS)))


def type_name(kind: pa.DataType) -> str:
    """A column's type as Arrow calls it, with D for the dimension of a model."""
    if pa.types.is_fixed_size_list(kind):
        return f"fixed_size_list<{type_name(kind.value_type)}>[D]"
    if pa.types.is_list(kind):
        return f"list<{type_name(kind.value_type)}>"
    if pa.types.is_map(kind):
        return f"map<{type_name(kind.key_type)}, {type_name(kind.item_type)}>"
    return {"float": "float32", "double": "float64", "halffloat": "float16", "date32[day]": "date"}.get(str(kind), str(kind))


def _section(schema: pa.Schema) -> str:
    name, description = (schema.metadata[key].decode() for key in (b"table", b"description"))
    head = ["| column | type | nullable | since | description |", "|---|---|---|---|---|"]
    rows = [
        f"| `{f.name}` | `{type_name(f.type)}` | {_yes(f.nullable)} | {_meta(f, b'since')} | {_meta(f, b'description')} |"
        for f in schema
    ]
    return "\n".join([f"## {name}", "", f"{_sentence(description)}", "", *head, *rows, ""])


def _meta(field: pa.Field, key: bytes) -> str:
    text: str = field.metadata[key].decode()
    return text.replace("|", r"\|")


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
