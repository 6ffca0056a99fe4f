"""Checks other than a judge's agreement: whether descriptions carry what matters, and which labels look wrong.

All of them use LM calls after the search; no answer reaches a prompt of the optimizer.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import dspy

from blpo_dspy.agreement.fidelity import Stated, fidelity, stated_labels
from blpo_dspy.agreement.intervals import agreement_intervals, plain_intervals
from blpo_dspy.agreement.label_errors import LikelyError, likely_label_errors
from blpo_dspy.agreement.measure import Agreement
from blpo_dspy.agreement.verdicts import Verdict
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.optimizers.bench.records import BLPOResult, Judgement
from blpo_dspy.programs.pairs import TRAIN, to_swap
from blpo_dspy.programs.visual_judge import Evidence, VisualJudge

Ask = Callable[[str, VisualJudge, Sequence[dspy.Example]], list[Verdict]]
"""Shows what is asked, and returns a judge's verdict on each example."""


@dataclass(frozen=True)
class Checks:
    """The results of the checks other than agreement.

    Attributes:
        fidelity: Agreement of the label judged from the description alone with the label judged from the pixels alone,
            of the start and of the compiled judge; None where it was not asked for.
        stated: Descriptions of either judge that give a verdict, which is the judge's to give.
        label_errors: Training examples whose label the compiled judge contradicts, the farthest first.
        looked_at: How many training examples it judged for them.
    """

    fidelity: tuple[Agreement, Agreement] | None = None
    stated: tuple[Stated, Stated] = (Stated(), Stated())
    label_errors: tuple[LikelyError, ...] = ()
    looked_at: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        pair = self.fidelity
        return {
            "fidelity": None
            if pair is None
            else {"before": _with_intervals(pair[0]), "after": _with_intervals(pair[1])},
            "stated_labels": {"before": self.stated[0].to_dict(), "after": self.stated[1].to_dict()},
            "label_errors": {"looked_at": self.looked_at, "found": [error.to_dict() for error in self.label_errors]},
        }


def _with_intervals(agreement: Agreement) -> dict[str, Any]:
    return {**agreement.to_dict(), "intervals": plain_intervals(agreement_intervals(agreement))}


def fidelity_sample(examples: Sequence[dspy.Example], size: int, seed: int) -> list[dspy.Example]:
    """Returns so many examples, drawn by seed, in their order; all of them if there are no more."""
    drawn = random.Random(f"{seed}:fidelity").sample(range(len(examples)), min(size, len(examples)))
    return [examples[position] for position in sorted(drawn)]


def fidelity_calls(evidence: str, images: int) -> Counter[str]:
    """Returns by role the LM calls of both judges' fidelity on images that both have judged already.

    Of the three verdicts on an image (from pixels, from text, from what the judge reads) one is known, and so is the
    description where the judge reads one.
    """
    if evidence == "image":
        return Counter({"verbalizer": 2 * images, "judge": 2 * images})
    return Counter({"judge": (4 if evidence == "both" else 2) * images})


def text_fidelity(
    judge: VisualJudge, examples: Sequence[dspy.Example], ask: Ask, when: str
) -> tuple[Agreement, list[Verdict]]:
    """Returns a judge's fidelity on examples, and the verdicts from text with the descriptions."""
    verdicts = {
        evidence: ask(f"from the {evidence} alone, {when}", _reading(judge, evidence), examples)
        for evidence in get_args(Evidence)
        if evidence != "both"
    }
    return fidelity(judge.labels, verdicts["image"], verdicts["description"]), verdicts["description"]


def _reading(judge: VisualJudge, evidence: Evidence) -> VisualJudge:
    """The same instructions with other evidence."""
    return VisualJudge(
        judge.labels,
        instruction=judge.instruction,
        verbalizer_instruction=judge.verbalizer_instruction,
        images=judge.images,
        context=judge.context,
        evidence=evidence,
        reasoning=judge.reasoning,
        pixel_policy=judge.pixel_policy,
    )


def late_verdicts(record: BLPOResult, train: Sequence[dspy.Example], labels: LabelSpace) -> dict[int, list[Verdict]]:
    """Returns by position what the judges of the later rounds, who know the task best, said about training examples."""
    late = record.rounds[len(record.rounds) // 2 :]
    judgements = [judgement for completed in late for judgement in completed.batch.judgements]
    found: dict[int, list[Verdict]] = {}
    for position, verdict in _said(judgements, 0, train, TRAIN, record, labels):
        found.setdefault(position, []).append(verdict)
    return found


def validated_verdicts(
    record: BLPOResult, train: Sequence[dspy.Example], val: Sequence[dspy.Example], labels: LabelSpace
) -> list[tuple[dspy.Example, Verdict]]:
    """Returns the validation examples that the search judged with its result, and what that said about each."""
    if record.after is None or record.validated_on != "val":
        return []
    return [(val[at], said) for at, said in _said(record.after.judgements, len(train), val, "val", record, labels)]


def _said(
    judgements: Sequence[Judgement],
    first: int,
    examples: Sequence[dspy.Example],
    name: str,
    record: BLPOResult,
    labels: LabelSpace,
) -> Iterator[tuple[int, Verdict]]:
    """What was said about examples, by their place among them, mirrored where the search showed the other order."""
    swapped = to_swap([example.label for example in examples], record.options["seed"], name) if labels.paired else ()
    for judgement in judgements:
        place, label = judgement.example - first, judgement.predicted
        if 0 <= place < len(examples):
            label = labels.mirror(label) if place in swapped and label is not None else label
            yield place, Verdict(label, judgement.answer, judgement.description, failure=judgement.failure)


def find_label_errors(
    judge: VisualJudge,
    train: Sequence[dspy.Example],
    known: Mapping[int, Sequence[Verdict]],
    ask: Ask,
    *,
    most: int,
    seed: int,
) -> tuple[list[LikelyError], int]:
    """Returns the training examples whose label the compiled judge contradicts, and how many it gave an answer to.

    Args:
        judge: The compiled judge.
        train: The training examples.
        known: What `late_verdicts` returned; who said otherwise then makes an answer less stable.
        ask: Asks the judge; an example that it gives no answer to is left out.
        most: How many examples to judge: first those that later rounds got wrong, last those they got right.
        seed: Draws among equals where not all are judged.
    """
    chosen = _doubtful_first(train, known, seed)[:most]
    final = ask("training labels", judge, [train[position] for position in chosen])
    said = {
        position: [verdict, *known.get(position, ())]
        for position, verdict in sorted(zip(chosen, final, strict=True), key=lambda pair: pair[0])
        if not verdict.failure
    }
    return likely_label_errors(judge.labels, [train[position] for position in said], list(said.values())), len(said)


def _doubtful_first(train: Sequence[dspy.Example], known: Mapping[int, Sequence[Verdict]], seed: int) -> list[int]:
    def rank(position: int) -> int:
        said = known.get(position, ())
        return 0 if any(verdict.label != train[position].label for verdict in said) else 2 if said else 1

    drawn = random.Random(f"{seed}:label errors").sample(range(len(train)), len(train))
    return sorted(drawn, key=rank)


def stated_in(labels: LabelSpace, examples: Sequence[dspy.Example], verdicts: Sequence[Verdict]) -> Stated:
    """Returns the descriptions among a judge's verdicts that give a label away."""
    described = [(str(example.get("id", "")), v.description) for example, v in zip(examples, verdicts, strict=True)]
    return stated_labels(labels, [(name, text) for name, text in described if text is not None])
