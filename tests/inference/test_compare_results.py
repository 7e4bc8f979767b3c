"""Results side by side: what is marked, what the marks say, and which files are refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from attennorm_tf.inference.compare_results import Comparison
from attennorm_tf.inference.gan_protocol import ResultError, load_result, protocol_differences


def result(name: str = "a", extractor: str = "tfgan_inception", fid: float = 12.345, **samples: Any) -> dict[str, Any]:
    return {
        "kind": "gan_evaluation",
        "format": 1,
        "subject": {"name": name, "step": 7},
        "protocol": {
            "extractor": {"name": extractor, "content_hash": "ab" * 32},
            "samples": {"count": 50_000, "seed": 0, "bn_mode": "moving", **samples},
            "metrics": {"fid": {"covariance": "unbiased"}},
        },
        "scores": {"fid": fid},
        "warnings": [],
    }


def test_equal_protocols_have_no_mark() -> None:
    comparison = Comparison([result("a", fid=12.345), result("b", fid=11.0)])
    assert comparison.notes == {}
    assert comparison.table() == (
        "features of tfgan_inception (abababababab)\nresult    FID\na       12.35\nb       11.00\n"
    ).replace("12.35", f"{12.345:.2f}")
    assert "| b | 11.00 |" in comparison.markdown()


def test_other_protocols_carry_letters_that_say_what_differs() -> None:
    results = [
        result("a"),
        result("b", bn_mode="batch"),
        result("c"),
        result("d", bn_mode="batch"),
        result("e", seed=1),
    ]
    comparison = Comparison(results)
    assert [row.mark for row in comparison.rows] == ["", "a", "", "a", "b"]
    assert comparison.notes == {"a": ["samples.bn_mode: moving / batch"], "b": ["samples.seed: 0 / 1"]}
    for text in (comparison.table(), comparison.markdown()):
        assert "d a)" in text
        assert "samples.seed: 0 / 1" in text
        assert text.index("samples.bn_mode: moving / batch") < text.index("samples.seed")


def test_extractors_never_share_rows() -> None:
    other = result("b", extractor="digits")
    comparison = Comparison([result("a"), other, result("c")])
    blocks = comparison.table().split("\n\n")
    assert "FID" in blocks[0]
    assert blocks[0].splitlines()[2].startswith("a")
    assert blocks[0].splitlines()[3].startswith("c")
    assert "features of digits" in blocks[1]
    assert "FD" in blocks[1]
    assert "FID" not in blocks[1]
    assert "extractor.name: tfgan_inception / digits" in blocks[2]
    weights = copy.deepcopy(result("c"))
    weights["protocol"]["extractor"]["content_hash"] = "cd" * 32
    assert Comparison([result("a"), weights]).notes == {"a": [
        "extractor.content_hash: abababababab... / cdcdcdcdcdcd..."]}  # fmt: skip


def test_a_measure_that_one_lacks_is_no_difference_but_how_it_was_taken_is() -> None:
    first, second, third = result("a"), result("b"), result("c")
    for made, splits in ((second, 10), (third, 5)):
        made["protocol"]["metrics"]["is"] = {"splits": splits}
        made["scores"].update(inception_score=9.0, inception_score_std=0.1)
    comparison = Comparison([first, second, third])
    assert [row.mark for row in comparison.rows] == ["", "", "a"]
    assert comparison.notes == {"a": ["metrics.is.splits: 10 / 5"]}


def test_long_names_fit_and_keep_their_marks() -> None:
    scores = dict.fromkeys(
        ("fid", "intra_fid_mean", "inception_score", "precision", "recall", "density", "coverage"), 0.5
    )
    made = [result("an_experiment_with_a_very_long_name"), result("an_experiment_with_a_very_long_name", seed=1)]
    for each in made:
        each["scores"] = {**scores, "kid": -0.01234, "kid_std_error": 0.2}
        each["warnings"] = ["FID: something that takes more than one line of the terminal to be told of in full here."]
    table = Comparison(made).table()
    assert max(map(len, table.splitlines())) <= 80
    assert "(2) a)" in table.splitlines()[3]
    assert table.count("warning, ") == 2


def test_no_results_and_names_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="results must be one or more, got none"):
        Comparison([])
    with pytest.raises(ValueError, match="names must be one for each of 1 results, got 2"):
        Comparison([result()], ["a", "b"])
    assert protocol_differences({"a": {"b": None}}, {"a": {"b": 1}, "c": 2}) == ["a.b: none / 1", "c: - / 2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not valid JSON"),
        ("[]", "is no GAN evaluation"),
        ('{"kind": "other"}', "but of kind 'other'"),
        ({"format": 2}, "has format 2, expected 1"),
        ({"protocol": None}, "lacks 'protocol'"),
        ({"scores": {}}, "has no scores"),
        ({"subject": {}}, "lacks 'subject.name'"),
        ({"protocol": {"extractor": {"name": "x"}}}, "lacks the name or the content_hash"),
        ({"scores": {"fid": "12"}}, "has a score 'fid' that is not a number: '12'"),
        ({"scores": {"fid": float("nan")}}, "is not valid JSON: NaN is no number of JSON"),
        ({"scores": {"psnr": 1.0}}, "has an unknown score, 'psnr'"),
        ({"scores": {"intra_fid": {"3": None, "4": True}}}, "has a score 'intra_fid' that is not a number"),
    ],
)
def test_files_that_are_no_results(tmp_path: Path, text: Any, message: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text if isinstance(text, str) else json.dumps({**result(), **text}))
    for given in (path, tmp_path):
        with pytest.raises(ResultError, match=message) as caught:
            load_result(given)
        assert str(path) in str(caught.value)
    with pytest.raises(ResultError, match=r"none/results.json|none cannot be read: No such file"):
        load_result(tmp_path / "none")
