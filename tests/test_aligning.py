import io
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console
from worlds import LABELS, TRAIN, VALIDATION, examples, student, world

from blpo_dspy.aligning import align
from blpo_dspy.models import Models
from blpo_dspy.options import Search
from blpo_dspy.progress import Watch
from blpo_dspy.sets import Sets

TEST = examples(range(1, 250, 12))
SEARCH = Search(rounds=2, inner_steps=1, threads=4)


@pytest.mark.parametrize("evidence", ["both", "image"])
def test_the_test_set_is_sealed_until_everything_else_is_done(evidence: str) -> None:
    """No test image is in a request before the search has ended, and none ever in the optimizer LM's prompts."""
    lm = world()
    sets = Sets(TRAIN, VALIDATION, TEST, "three sets")
    with Watch(Console(file=io.StringIO())) as watch:
        aligned = align(student(evidence=evidence), sets, Models(lm, lm, lm), SEARCH, watch)
    sealed = {example.image.url.partition(",")[2] for example in TEST}
    touched = [bool(sealed & set(seen.images)) for seen in lm.engine.seen]
    assert any(touched)
    first = touched.index(True)
    assert all(touched[first:])
    assert {field for seen in lm.engine.seen[first:] for field in seen.fields} <= {"label", "description"}
    assert aligned.after.test is not None
    assert aligned.after.test.n == len(TEST)


def test_a_cap_on_calls_holds_over_search_and_test() -> None:
    """Both stay within the cap together; the look at doubtful labels takes nothing of what the test split needs."""
    lm = world()
    sets = Sets(TRAIN, VALIDATION, TEST, "three sets")
    search = Search(rounds=8, threads=4, max_calls=300, label_errors=len(TRAIN))
    with Watch(Console(file=io.StringIO())) as watch:
        aligned = align(student(), sets, Models(lm, lm, lm), search, watch)
    assert len(lm.engine.seen) <= 300
    assert [(on.test.n, on.test.failed) for on in (aligned.before, aligned.after)] == [(len(TEST), 0)] * 2


def test_the_card_names_no_model_and_counts_no_cache() -> None:
    """What is written into the artifact depends on the seed and the LM's answers alone."""
    lm = world()
    sets = Sets(TRAIN, VALIDATION, TEST, "three sets")
    with Watch(Console(file=io.StringIO())) as watch:
        aligned = align(student(), sets, Models(lm, lm, lm), SEARCH, watch)
    text = str(aligned.judge.card)
    assert aligned.judge.card["answers"] == aligned.record.ledger.answers()
    assert aligned.judge.card["answers"]["judge"] > len(TRAIN)
    assert "scripted" not in text
    assert "seconds" not in text
    assert aligned.judge.labels == LABELS


@pytest.mark.parametrize("journaled", [False, True])
def test_what_the_search_paid_for_is_not_paid_for_again(journaled: bool, tmp_path: Path) -> None:
    """Measurements after the search, also in a session of their own, take its answers to equal requests."""
    lm = world()
    sets = Sets(TRAIN, VALIDATION, TEST, "three sets")
    log_dir = tmp_path if journaled else None
    with Watch(Console(file=io.StringIO())) as watch:
        aligned = align(student(), sets, Models(lm, lm, lm), SEARCH, watch, log_dir=log_dir)
        paid = Counter((seen.text, *seen.images) for seen in lm.engine.seen)
        assert aligned.checks.looked_at
        assert max(paid.values()) == 1
        if journaled:
            (tmp_path / "measured" / "journal.jsonl").unlink()
            again = align(student(), sets, Models(lm, lm, lm), SEARCH, watch, log_dir=log_dir)
            assert len(lm.engine.seen) - paid.total() == again.final.total.calls == aligned.final.total.calls
