"""`dsa:`: what a statement of reasons says about a block, for the EU's DSA Transparency Database (API v2, since July 2025).

Names of keys and values are those of that database, so that they can be looked up in its documentation. Pure.
"""

from enum import StrEnum
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from moderation.policy.model_choice import Strict

MOST_FACTS = 5_000
"""Characters of `decision_facts`."""

Ground = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
Explanation = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]


class DsaCategory(StrEnum):
    """Values of `category`."""

    ANIMAL_WELFARE = "STATEMENT_CATEGORY_ANIMAL_WELFARE"
    CONSUMER_INFORMATION = "STATEMENT_CATEGORY_CONSUMER_INFORMATION"
    CYBER_VIOLENCE = "STATEMENT_CATEGORY_CYBER_VIOLENCE"
    CYBER_VIOLENCE_AGAINST_WOMEN = "STATEMENT_CATEGORY_CYBER_VIOLENCE_AGAINST_WOMEN"
    DATA_PROTECTION = "STATEMENT_CATEGORY_DATA_PROTECTION_AND_PRIVACY_VIOLATIONS"
    SPEECH = "STATEMENT_CATEGORY_ILLEGAL_OR_HARMFUL_SPEECH"
    INTELLECTUAL_PROPERTY = "STATEMENT_CATEGORY_INTELLECTUAL_PROPERTY_INFRINGEMENTS"
    CIVIC_DISCOURSE = "STATEMENT_CATEGORY_NEGATIVE_EFFECTS_ON_CIVIC_DISCOURSE_OR_ELECTIONS"
    NOT_SPECIFIED = "STATEMENT_CATEGORY_NOT_SPECIFIED_NOTICE"
    OTHER_VIOLATION = "STATEMENT_CATEGORY_OTHER_VIOLATION_TC"
    MINORS = "STATEMENT_CATEGORY_PROTECTION_OF_MINORS"
    PUBLIC_SECURITY = "STATEMENT_CATEGORY_RISK_FOR_PUBLIC_SECURITY"
    SCAMS = "STATEMENT_CATEGORY_SCAMS_AND_FRAUD"
    SELF_HARM = "STATEMENT_CATEGORY_SELF_HARM"
    PRODUCTS = "STATEMENT_CATEGORY_UNSAFE_AND_PROHIBITED_PRODUCTS"
    VIOLENCE = "STATEMENT_CATEGORY_VIOLENCE"


DsaKeyword = Literal[
    "KEYWORD_ANIMAL_HARM",
    "KEYWORD_ADULT_SEXUAL_MATERIAL",
    "KEYWORD_AGE_SPECIFIC_RESTRICTIONS",
    "KEYWORD_AGE_SPECIFIC_RESTRICTIONS_MINORS",
    "KEYWORD_BIOMETRIC_DATA_BREACH",
    "KEYWORD_BULLYING_AGAINST_GIRLS",
    "KEYWORD_CHILD_SEXUAL_ABUSE_MATERIAL",
    "KEYWORD_CHILD_SEXUAL_ABUSE_MATERIAL_DEEPFAKE",
    "KEYWORD_CONTENT_PROMOTING_EATING_DISORDERS",
    "KEYWORD_COORDINATED_HARM",
    "KEYWORD_COPYRIGHT_INFRINGEMENT",
    "KEYWORD_CYBER_BULLYING_INTIMIDATION",
    "KEYWORD_CYBER_HARASSMENT",
    "KEYWORD_CYBER_HARASSMENT_AGAINST_WOMEN",
    "KEYWORD_CYBER_INCITEMENT",
    "KEYWORD_CYBER_STALKING",
    "KEYWORD_CYBER_STALKING_AGAINST_WOMEN",
    "KEYWORD_DATA_FALSIFICATION",
    "KEYWORD_DEFAMATION",
    "KEYWORD_DESIGN_INFRINGEMENT",
    "KEYWORD_DISCRIMINATION",
    "KEYWORD_FEMALE_GENDERED_DISINFORMATION",
    "KEYWORD_GEOGRAPHICAL_REQUIREMENTS",
    "KEYWORD_GEOGRAPHIC_INDICATIONS_INFRINGEMENT",
    "KEYWORD_GOODS_SERVICES_NOT_PERMITTED",
    "KEYWORD_GROOMING_SEXUAL_ENTICEMENT_MINORS",
    "KEYWORD_HATE_SPEECH",
    "KEYWORD_HIDDEN_ADVERTISEMENT",
    "KEYWORD_HUMAN_EXPLOITATION",
    "KEYWORD_HUMAN_TRAFFICKING",
    "KEYWORD_ILLEGAL_ORGANIZATIONS",
    "KEYWORD_IMPERSONATION_ACCOUNT_HIJACKING",
    "KEYWORD_INAUTHENTIC_ACCOUNTS",
    "KEYWORD_INAUTHENTIC_LISTINGS",
    "KEYWORD_INAUTHENTIC_USER_REVIEWS",
    "KEYWORD_INCITEMENT_AGAINST_WOMEN",
    "KEYWORD_INCITEMENT_VIOLENCE_HATRED",
    "KEYWORD_INSUFFICIENT_INFORMATION_ON_TRADERS",
    "KEYWORD_LANGUAGE_REQUIREMENTS",
    "KEYWORD_MISINFORMATION_DISINFORMATION",
    "KEYWORD_MISLEADING_INFO_CONSUMER_RIGHTS",
    "KEYWORD_MISLEADING_INFO_GOODS_SERVICES",
    "KEYWORD_MISSING_PROCESSING_GROUND",
    "KEYWORD_NONCOMPLIANCE_PRICING",
    "KEYWORD_NON_CONSENSUAL_IMAGE_SHARING",
    "KEYWORD_NON_CONSENSUAL_IMAGE_SHARING_AGAINST_WOMEN",
    "KEYWORD_NON_CONSENSUAL_MATERIAL_DEEPFAKE",
    "KEYWORD_NON_CONSENSUAL_MATERIAL_DEEPFAKE_AGAINST_WOMEN",
    "KEYWORD_NUDITY",
    "KEYWORD_PATENT_INFRINGEMENT",
    "KEYWORD_PHISHING",
    "KEYWORD_PROHIBITED_PRODUCTS",
    "KEYWORD_PYRAMID_SCHEMES",
    "KEYWORD_RIGHT_TO_BE_FORGOTTEN",
    "KEYWORD_RISK_ENVIRONMENTAL_DAMAGE",
    "KEYWORD_RISK_PUBLIC_HEALTH",
    "KEYWORD_SELF_MUTILATION",
    "KEYWORD_STALKING",
    "KEYWORD_SUICIDE",
    "KEYWORD_TERRORIST_CONTENT",
    "KEYWORD_TRADEMARK_INFRINGEMENT",
    "KEYWORD_TRADE_SECRET_INFRINGEMENT",
    "KEYWORD_TRAFFICKING_WOMEN_GIRLS",
    "KEYWORD_UNLAWFUL_SALE_ANIMALS",
    "KEYWORD_UNSAFE_CHALLENGES",
    "KEYWORD_UNSAFE_PRODUCTS",
    "KEYWORD_VIOLATION_EU_LAW",
    "KEYWORD_VIOLATION_NATIONAL_LAW",
    "KEYWORD_OTHER",
]
"""Values of `category_specification`."""

DsaVisibility = Literal[
    "DECISION_VISIBILITY_CONTENT_REMOVED",
    "DECISION_VISIBILITY_CONTENT_DISABLED",
    "DECISION_VISIBILITY_CONTENT_DEMOTED",
    "DECISION_VISIBILITY_CONTENT_AGE_RESTRICTED",
    "DECISION_VISIBILITY_CONTENT_INTERACTION_RESTRICTED",
    "DECISION_VISIBILITY_CONTENT_LABELLED",
    "DECISION_VISIBILITY_OTHER",
]
DsaContentType = Literal[
    "CONTENT_TYPE_IMAGE",
    "CONTENT_TYPE_PRODUCT",
    "CONTENT_TYPE_SYNTHETIC_MEDIA",
    "CONTENT_TYPE_VIDEO",
    "CONTENT_TYPE_TEXT",
    "CONTENT_TYPE_AUDIO",
    "CONTENT_TYPE_APP",
    "CONTENT_TYPE_OTHER",
]
DsaGround = Literal["DECISION_GROUND_ILLEGAL_CONTENT", "DECISION_GROUND_INCOMPATIBLE_CONTENT"]
DsaSource = Literal["SOURCE_VOLUNTARY", "SOURCE_ARTICLE_16", "SOURCE_TRUSTED_FLAGGER", "SOURCE_TYPE_OTHER_NOTIFICATION"]

# fmt: off
DsaTerritory = Literal[
    "EU", "EEA", "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU",
    "IE", "IS", "IT", "LI", "LT", "LU", "LV", "MT", "NL", "NO", "PL", "PT", "RO", "SE", "SI", "SK",
]
# fmt: on
EEA = tuple(sorted(set(get_args(DsaTerritory)) - {"EU", "EEA"}))
EU = tuple(country for country in EEA if country not in ("IS", "LI", "NO"))


class Dsa(Strict):
    """What a statement of reasons says about images that a rule blocks."""

    category: DsaCategory = Field(description="STATEMENT_CATEGORY_...: the kind of violation")
    category_addition: tuple[DsaCategory, ...] = Field(default=(), max_length=16, description="further categories")
    category_specification: tuple[DsaKeyword, ...] = Field(default=(), max_length=20, description="KEYWORD_...: more precisely")
    category_specification_other: Ground | None = Field(default=None, description="in words, for KEYWORD_OTHER")
    decision_ground: DsaGround = Field(description="DECISION_GROUND_ILLEGAL_CONTENT | DECISION_GROUND_INCOMPATIBLE_CONTENT")
    decision_ground_reference_url: Ground | None = Field(default=None, description="https://... of the law or terms")
    illegal_content_legal_ground: Ground | None = Field(default=None, description="the law, for illegal content")
    illegal_content_explanation: Explanation | None = Field(default=None, description="why it is illegal under that law")
    incompatible_content_ground: Ground | None = Field(default=None, description="the clause of your terms, for other content")
    incompatible_content_explanation: Explanation | None = Field(default=None, description="why it violates that clause")
    incompatible_content_illegal: Literal["Yes", "No"] | None = Field(
        default=None, description='"Yes" if content that violates your terms is illegal, too'
    )
    decision_visibility: tuple[DsaVisibility, ...] = Field(
        default=("DECISION_VISIBILITY_CONTENT_REMOVED",), min_length=1, max_length=7, description="what a block does"
    )
    decision_visibility_other: Ground | None = Field(default=None, description="in words, for DECISION_VISIBILITY_OTHER")
    content_type: tuple[DsaContentType, ...] = Field(
        default=("CONTENT_TYPE_IMAGE",), min_length=1, max_length=8, description="what the images are part of"
    )
    content_type_other: Ground | None = Field(default=None, description="in words, for CONTENT_TYPE_OTHER")
    territorial_scope: tuple[DsaTerritory, ...] = Field(
        default=("EU",), min_length=1, max_length=32, description="EU, EEA, or countries such as [DE, FR]"
    )
    source_type: DsaSource = Field(default="SOURCE_VOLUNTARY", description="what led to the decision")
    decision_facts: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=3000)] | None = Field(
        default=None, description="facts of the decision, put before those that the export writes; no personal data"
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        illegal = self.decision_ground == "DECISION_GROUND_ILLEGAL_CONTENT"
        needed, other = ("illegal", "incompatible") if illegal else ("incompatible", "illegal")
        ground = "legal_ground" if illegal else "ground"
        keys = (f"{needed}_content_{ground}", f"{needed}_content_explanation")
        missing = [key for key in keys if getattr(self, key) is None]
        if missing:
            raise _problem(
                f"needs {' and '.join(f'`{key}`' for key in missing)}, since `decision_ground` is {self.decision_ground}"
            )
        for key in type(self).model_fields:
            if key.startswith(f"{other}_content_") and getattr(self, key) is not None:
                raise _problem(f"has `{key}`, although `decision_ground` is {self.decision_ground}")
        self._with_other("decision_visibility", "DECISION_VISIBILITY_OTHER")
        self._with_other("content_type", "CONTENT_TYPE_OTHER")
        if self.category_specification_other is not None and "KEYWORD_OTHER" not in self.category_specification:
            raise _problem("has `category_specification_other`, but no KEYWORD_OTHER in `category_specification`")
        url = self.decision_ground_reference_url
        if url is not None and not url.startswith(("https://", "http://")):
            raise _problem("has a `decision_ground_reference_url` that does not begin with https://")
        return self

    def _with_other(self, key: str, value: str) -> None:
        wanted, given = value in getattr(self, key), getattr(self, f"{key}_other") is not None
        if wanted and not given:
            raise _problem(f"needs `{key}_other`, since `{key}` has {value}")
        if given and not wanted:
            raise _problem(f"has `{key}_other`, but no {value} in `{key}`")

    @property
    def countries(self) -> tuple[str, ...]:
        """`territorial_scope` as the database takes it: countries, in order."""
        found: set[str] = set()
        for territory in self.territorial_scope:
            found.update({"EU": EU, "EEA": EEA}.get(territory, (territory,)))
        return tuple(sorted(found))


def _problem(wording: str) -> PydanticCustomError:
    return PydanticCustomError("dsa", "{wording}", {"wording": wording})
