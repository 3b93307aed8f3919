"""Reading labels strictly, and what becomes of those that cannot be used."""

from pathlib import Path

import pytest
from tuned_results import POLICY_TEXT, uri

from moderation.errors import SettingsError
from moderation.labels.labels import Label, read_labels
from moderation.policy_files.loading import parse_policy
from moderation.studies.tuning.evidence import Judged, Unusable, checked, judged

HEADER = "uri,rule,label\n"


def read(folder: Path, text: str | bytes):
    path = folder / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_labels(path)


def told(file) -> list[tuple[str, tuple[int, ...]]]:
    return [(remark.message, remark.lines) for remark in file.remarks]


def test_the_usual_spellings_of_true_and_false_are_read(tmp_path):
    said = ["true", "TRUE", "Yes", "y", "t", "1", "false", "No", "n", "F", "0", " false "]
    file = read(tmp_path, HEADER + "".join(f"u{i},firearms,{label}\n" for i, label in enumerate(said)))
    assert [label.truth for label in file.labels] == [True] * 6 + [False] * 6
    assert not file.remarks


def test_files_saved_by_spreadsheets_are_read(tmp_path):
    text = '\ufeff"uri","Rule","label"\r\n"s3://b/a, ""b""\r\nc.jpg","firearms","true"\r\n\r\n"s3://b/=1.jpg","ANY","false"\r\n'
    file = read(tmp_path, text)
    assert [(label.uri, label.rule, label.line) for label in file.labels] == [
        ('s3://b/a, "b"\r\nc.jpg', "firearms", 2),
        ("s3://b/=1.jpg", "any", 5),
    ]
    assert not file.remarks


ROWS = "uri,rule,label,weight\ns3://b/Größe.jpg,guns,true,1.5\ns3://b/b.jpg,guns,false,2.5\n"


@pytest.mark.parametrize(
    ("raw", "remarks"),
    [
        (ROWS.encode(), 0),
        (ROWS.replace(",", ";").replace(".5", ",5").encode("utf-8-sig"), 0),
        (b"sep=;\r\n" + ROWS.replace(",", ";").encode(), 0),
        (ROWS.replace(",", "\t").encode("utf-16"), 1),
        (ROWS.replace(",", ";").replace(".5", ",5").replace("\n", "\r\n").encode("cp1252"), 1),
        (ROWS.replace("\n", "\r").encode(), 0),
        (ROWS.replace("true", "1.0").replace("false", "0.0").encode(), 0),
        (ROWS.replace("true", "WAHR").replace("false", "FALSCH").encode(), 0),
        (ROWS.replace("true", "VRAI").replace("false", "FAUX").encode(), 0),
    ],
    ids=["plain", "German Excel", "sep=", "Unicode text", "Windows-1252", "old Mac", "pandas", "German", "French"],
)
def test_files_of_other_programs_and_countries_say_the_same(tmp_path, raw, remarks):
    file = read(tmp_path, raw)
    assert [(label.uri, label.rule, label.truth, label.weight) for label in file.labels] == [
        ("s3://b/Größe.jpg", "guns", True, 1.5),
        ("s3://b/b.jpg", "guns", False, 2.5),
    ]
    assert len(file.remarks) == remarks
    assert all("Größe" in remark.message and remark.outcome == "counted" for remark in file.remarks)


def test_unsure_is_a_label_that_is_not_there_yet(tmp_path):
    file = read(tmp_path, HEADER + "a,r,unsure\nb,r,true\n")
    assert (file.open, told(file)) == (1, [])


def test_every_unusable_row_is_reported_with_its_line(tmp_path):
    file = read(
        tmp_path,
        "uri,rule,stratum,weight,score,label,notes\n"
        "a,firearms,x,1.5,0.3,true,\n"
        "b,firearms,x,1.5,0.3,maybe,\n"
        ",firearms,x,1.5,0.3,true,\n"
        "c,,x,1.5,0.3,true,\n"
        "d,firearms,x,-1,0.3,true,\n"
        "e,firearms,x,nan,0.3,true,\n"
        "f,firearms,x,1e300,0.3,true,\n"
        "g,firearms,x,1.5,0.3,true\n"
        "h,firearms,x,1.5,0.3,,\n"
        "i,firearms,x,1.5,0.3,maybe,\n",
    )
    assert [label.uri for label in file.labels] == ["a", "h"]
    assert (file.rows, file.open) == (10, 1)
    assert told(file) == [
        ("the label 'maybe' is neither true nor false: write true or false", (3, 11)),
        ("`uri` is empty", (4,)),
        ("`rule` is empty: write the id of a rule, or any", (5,)),
        ("the weight '-1' is not a positive number", (6,)),
        ("the weight 'nan' is not a positive number", (7,)),
        ("the weight '1e300' is not a positive number", (8,)),
        ("6 values where 7 belong: a comma is missing", (9,)),
        ("not read: the column `notes`", (1,)),
    ]
    assert file.labels[0] == Label("a", "firearms", truth=True, weight=1.5, stratum="x", line=2)


def test_contradicting_and_repeated_labels_are_reported(tmp_path):
    file = read(tmp_path, HEADER + "a,r,true\na,r,false\nb,r,true\nb,r,yes\nb,r,\nc,r,true\nc,s,false\n")
    assert [(label.uri, label.rule) for label in file.labels] == [("b", "r"), ("c", "r"), ("c", "s")]
    assert told(file) == [
        ("1 image is labelled both true and false for one rule", (2, 3)),
        ("2 rows repeat an earlier one", (5, 6)),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("uri,rule\na,b\n", "no column 'label'"),
        ("uri:rule:label\n", "commas must separate"),
        ("uri,rule,lable\n", "rename 'lable'"),
        ("uri,rule,label,label\n", "two columns 'label'"),
        (HEADER + 'a,b,"true\n', "labels.csv:2: not valid CSV"),
        (HEADER + 'a,b,"true"x\n', "labels.csv:2: not valid CSV"),
        (HEADER.encode() + b"a,b,tr\x81ue\n", "labels.csv:2: not UTF-8"),
        (HEADER.encode("utf-16-le"), "no column 'uri'"),
        (b"PK\x03\x04 a workbook", "is a workbook: save it as CSV"),
        (HEADER + "a" * 200_000 + ",b,true\n", "field larger than"),
        (HEADER + "a" * (2 << 20), "longer than 1 MiB"),
    ],
)
def test_a_file_that_is_no_such_table_is_one_clear_line(tmp_path, text, message):
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_labels_file_is_one_clear_line(tmp_path):
    with pytest.raises(SettingsError, match="cannot read the labels"):
        read_labels(tmp_path / "none.csv")


def test_hostile_text_is_shown_and_does_nothing(tmp_path):
    file = read(tmp_path, HEADER + "a\x1b[31m\u202eb\x00,r,<script>\x1b]0;x\x07\n")
    assert "\x1b" not in str(file.remarks[0])
    assert "<script>␛" in str(file.remarks[0])


def test_a_misspelt_column_is_asked_about(tmp_path):
    file = read(tmp_path, "uri,rule,label,wieght\na,r,true,3\n")
    assert "is 'wieght'" in str(file.remarks[0]).replace("`", "'")
    assert "`weight`" in str(file.remarks[0])


def labelled(*rows: tuple) -> list[Label]:
    return [Label(uri(i), rule, truth, weight, stratum, i + 2) for i, (rule, truth, weight, stratum) in enumerate(rows)]


SCORES = {uri(i): i / 1000 for i in range(1000)}


def test_unknown_images_and_rules_are_reported(tmp_path):
    rows = "a,firearms,true\nb,firearms,true\nc,firearms,true\na,fierarms,true\na,beer,true\na,any,false\n"
    found = checked(read(tmp_path, HEADER + rows), parse_policy(POLICY_TEXT), {"a"}, frozenset({"b"}))
    assert told(found) == [
        ("an image is labelled true for a live rule and false for `any`", (2, 7)),
        ("the image could not be scored: it ended in an error", (3,)),
        ("the image is not in the results", (4,)),
        ("the policy has no rule 'fierarms': did you mean `firearms`? rules: firearms, nudity", (5,)),
        ("the rule beer is off, so it has no scores: set `mode: shadow`", (6,)),
    ]
    assert all(label.truth is None for label in found.labels)


@pytest.mark.parametrize(
    ("true", "false", "why"),
    [(20, 0, "all 20 labels are true"), (0, 3, "all 3 labels are false"), (4, 50, "4 true and 50 false labels are too few")],
)
def test_labels_of_one_class_and_too_few_of_them(true, false, why):
    found = judged(labelled(*[("r", True, None, "")] * true, *[("r", False, None, "")] * false), "r", SCORES, None)
    assert isinstance(found, Unusable)
    assert why in found.why


def test_labels_for_any_count_as_negatives_of_a_rule_where_the_prevalence_is_given():
    rows = labelled(
        *[("r", True, None, "")] * 8,
        *[("r", False, None, "")] * 6,
        *[("any", False, None, "")] * 5,
        *[("any", True, None, "")] * 3,
    )
    given, own = (judged(rows, "r", SCORES, prevalence) for prevalence in (0.01, None))
    assert isinstance(given, Judged)
    assert (given.sample.positives, given.sample.negatives) == (8, 11)
    assert "5 say that no rule applies and count as negatives; 3 say" in given.remarks[0]
    assert isinstance(own, Judged)
    assert (own.sample.positives, own.sample.negatives) == (8, 6)
    assert "does not fit production" in own.remarks[0]


def test_unlabelled_images_of_a_stratum_are_stood_for_by_the_labelled_ones():
    rows = labelled(
        *[("r", True, 1.0, "flagged")] * 10,
        *[("r", None, 1.0, "flagged")] * 10,
        *[("r", False, 98.0, "random")] * 10,
    )
    found = judged(rows, "r", SCORES, None)
    assert isinstance(found, Judged)
    assert found.sample.prevalence == pytest.approx(20 / 1000)
    assert "10 drawn images have no usable label" in found.remarks[0]


def test_a_stratum_without_any_label_is_refused():
    rows = labelled(
        *[("r", True, 1.0, "flagged")] * 10, *[("r", False, 1.0, "flagged")] * 10, *[("r", None, 98.0, "random")] * 10
    )
    found = judged(rows, "r", SCORES, None)
    assert isinstance(found, Unusable)
    assert "'random'" in found.why
    assert "98 %" in found.why


def test_labels_without_a_weight_do_not_count_beside_those_with_one():
    rows = labelled(*[("r", True, 2.0, "")] * 6, *[("r", False, 5.0, "")] * 7, ("r", True, None, ""), ("any", False, None, ""))
    found = judged(rows, "r", SCORES, None)
    assert isinstance(found, Judged)
    assert (found.sample.positives, found.sample.negatives) == (6, 7)
    assert "1 label without a weight" in found.remarks[0]


def test_weights_of_another_population_are_reported():
    rows = labelled(*[("r", True, 2.0, "")] * 6, *[("r", False, 5.0, "")] * 7)
    above = lambda scores: 1 - scores  # noqa: E731
    other, same = (judged(rows, "r", SCORES, None, above, images) for images in (1000, 47))
    assert other.sample.known is None
    assert "add up to 47 images, the results hold 1,000" in other.remarks[0]
    assert same.sample.known is not None
    assert not same.remarks


def test_weights_of_all_sizes_are_put_into_groups():
    rows = labelled(*[("r", i % 2 == 0, 1.0 + i / 7, "") for i in range(200)])
    found = judged(rows, "r", SCORES, None)
    assert isinstance(found, Judged)
    assert len(set(found.sample.groups.tolist())) == 8
