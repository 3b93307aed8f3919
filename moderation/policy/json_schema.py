"""The policy language as a JSON Schema, for completion and checks in editors: `moderate policy schema`."""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from moderation.policy.schema import PolicyFile as Language

TITLE = "clip-moderation policy"
Schema = dict[str, Any]


def schema() -> Schema:
    """The JSON Schema (draft 2020-12) of a policy file. Every key has a description, and unknown keys are errors."""
    found = Language.model_json_schema(schema_generator=_Generator)
    for key in found["$defs"]["Override"]["properties"].values():
        key.pop("default", None)  # what an override leaves out stays as it is
    required = found.pop("required")
    return {
        "$schema": _Generator.schema_dialect,
        **found,
        "title": TITLE,
        # What a file does not say itself may stand in the one that it includes.
        "if": {"required": ["include"]},
        "else": {"required": required},
    }


class _Generator(GenerateJsonSchema):
    """Pydantic's generator, without titles that repeat the keys, and as strict about unknown keys as the language."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        """Keys are their own titles."""
        return False

    def dict_schema(self, schema: core_schema.DictSchema) -> Schema:
        """Mappings by rule id take no other keys."""
        found = super().dict_schema(schema)
        if "patternProperties" in found:
            found["additionalProperties"] = False
        return found
