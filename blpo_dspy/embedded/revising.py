"""The optimizer's role: instructions are rewritten from what a prompt shows, a few changes at a time."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from blpo_dspy.embedded.bold import corrected, placed
from blpo_dspy.embedded.judging import level_in, scale_of
from blpo_dspy.embedded.reading import vocabulary
from blpo_dspy.embedded.reading.cases import own_cases, write_cases
from blpo_dspy.embedded.reading.evidence import Mistake, directions, mistakes
from blpo_dspy.embedded.reading.instructions import best_tried, current_instruction, judge_instruction, tried
from blpo_dspy.embedded.reading.request import OutputField, Reading, without_images
from blpo_dspy.embedded.sight import flaws
from blpo_dspy.embedded.sight.senses import Senses

QUARTER = 0.25
_STEPS = ((1.5, 2 * QUARTER), (0.5, QUARTER), (0.0, QUARTER / 2))
"""Mean error in levels, at least → by how much a revision moves a weight: little where the mistakes disagree."""
_DOUBTED_CUES = 0.25
_REPORT_NAME = re.compile(r"verbali[sz]|descri|caption|report|i2t", re.IGNORECASE)
_REPORTING = re.compile(r"\b(?:describe|caption|verbali[sz]e|report|transcribe)\b", re.IGNORECASE)
_JUDGING = re.compile(r"\b(?:rate|judge|score|label|classify|decide|grade|assess|evaluate)\b", re.IGNORECASE)
_MERGING = re.compile(r"\b(?:merg\w+|join|combin\w+)\b|^merged", re.IGNORECASE)
_PARAPHRASE = re.compile(
    r"\b(?:paraphras\w+|variation of|keep(?:ing)? the (?:semantic )?meaning|same meaning|reword\w*)\b", re.IGNORECASE
)
_WORDINGS = (
    "Look at the whole picture before you decide.",
    "Weigh every visible fault by how much it disturbs the picture.",
    "Compare the picture with a clean one of the same subject.",
    "Decide by what is visible and not by the subject.",
    "Look at the picture closely, then from a distance.",
    "Be consistent from one picture to the next.",
)
_REPORT_OPENINGS = (
    "Report how the picture was taken and processed.",
    "Look closely at the picture as a photograph.",
    "Examine the picture as a photographer would.",
    "Report what the camera and the processing did to the picture.",
)
_REPORT_CLOSINGS = (
    "For each of them say whether it is absent, slight, moderate or severe.",
    "Say of each how far it goes: absent, slight, moderate or severe.",
    "State the degree of each, from absent over slight and moderate to severe.",
)


@dataclass(frozen=True)
class Blame:
    """What a flaw's weight should do: `total` > 0 means count more; `error` is the mean error behind it, in levels."""

    flaw: str
    total: float
    error: float


def blames(reading: Reading, senses: Senses, rng: random.Random) -> list[Blame]:
    """Returns what the evidence says about each flaw, the clearest first; errors are shared by described severity."""
    found, level = mistakes(reading, senses), level_in(_scale(reading))
    votes = directions(reading)
    result = []
    for flaw in flaws.FLAWS:
        shares = [(_share(m, flaw), m.too_high / level) for m in found if m.too_high and flaw in m.blamed]
        total = sum(share * off for share, off in shares)
        error = abs(total) / sum(abs(share) for share, _ in shares) if shares else 1.0
        total = total * rng.uniform(0.9, 1.1) + votes.get(flaw, 0.0)
        if abs(total) >= QUARTER:
            result.append(Blame(flaw, total, error))
    return sorted(result, key=lambda blame: -abs(blame.total))


def _scale(reading: Reading) -> Sequence[object]:
    """The labels that a prompt is about, from worst to best."""
    return scale_of(OutputField("label", desc=reading.inputs.get("labels", "")), reading)


def _share(mistake: Mistake, flaw: str) -> float:
    return mistake.blamed[flaw] / sum(map(abs, mistake.blamed.values()))


def write_instruction(name: str, reading: Reading, senses: Senses, variant: int = 0) -> str:
    """Returns the instruction that a prompt asks for in a field: merged, reworded, for reports or for a judge.

    Of several answers each is another `variant`.
    """
    rng = senses.rng(reading.seed, f"write:{variant}", reading.prompt, *(x for x in reading.images if x))
    request = f"{name.replace('_', ' ')} {reading.objective if reading.inputs else without_images(reading.prompt)}"
    current = current_instruction(reading)
    revisions = [entry.instruction for entry in tried(reading)]
    if revisions and _MERGING.search(request):
        return merged(current, revisions)
    if _PARAPHRASE.search(request):
        return reworded(current, rng)
    if for_reports(name, current):
        return report_instruction(reading, senses, rng)
    return revised(current, reading, senses, rng, variant)


def for_reports(name: str, current: str) -> bool:
    """Whether the instruction is for a model that describes, by the field's name, else by the current instruction."""
    return bool(_REPORT_NAME.search(name) or (_REPORTING.search(current) and not _JUDGING.search(current)))


def revised(current: str, reading: Reading, senses: Senses, rng: random.Random, variant: int = 0) -> str:
    """Returns the judge's instruction with a few weights moved by what the mistakes share.

    Without any mistake to learn from it guesses, starting from the best instruction that the prompt lists.
    """
    found = mistakes(reading, senses)
    if senses.traits.temperament == "bold":
        scale = _scale(reading)
        bold = corrected(current, placed(found, scale), len(scale), reading.system or reading.text, senses.traits, rng)
        if bold is not None:
            return bold if bold != current else reworded(current, rng)
    changes = weight_changes(current, reading, senses, rng, variant)
    if changes:
        return vocabulary.reweighted(current, changes)
    if any(mistake.too_high for mistake in found):
        return reworded(current, rng)
    best = best_tried(reading)
    base = best.instruction if best else current
    return vocabulary.reweighted(base, guessed(base, senses, rng))


def weight_changes(
    current: str, reading: Reading, senses: Senses, rng: random.Random, variant: int = 0
) -> dict[str, float]:
    """Returns the new weights of the flaws to blame; further answers one later flaw each."""
    weights, finest = vocabulary.read_weights(current), _STEPS[-1][1]
    changes: dict[str, float] = {}
    found = blames(reading, senses, rng)
    first = variant % max(1, len(found))
    for blame in found[first:] + found[:first]:
        old = round(weights.get(blame.flaw, senses.traits.prior) / finest) * finest
        step = next(step for least, step in _STEPS if blame.error >= least)
        new = min(1.0, max(0.0, old + (step if blame.total > 0 else -step)))
        if new != old or blame.flaw not in weights:
            changes[blame.flaw] = new
        if len(changes) == (1 if variant else senses.traits.edits):
            break
    return changes


def guessed(current: str, senses: Senses, rng: random.Random) -> Mapping[str, float]:
    """Returns a blind guess: other weights for a few flaws."""
    weights = vocabulary.read_weights(current)
    chosen = rng.sample(flaws.FLAWS, senses.traits.edits)
    return {flaw: rng.choice([w for w in (0.0, 0.25, 0.5, 0.75, 1.0) if w != weights.get(flaw)]) for flaw in chosen}


def reworded(current: str, rng: random.Random) -> str:
    """Returns the instruction with the same weights and one more sentence."""
    new = [wording for wording in _WORDINGS if wording not in current]
    if not new:
        return current.replace(_WORDINGS[0], "").strip()
    body = vocabulary.without_weights(current)
    weights = current.strip()[len(body) :].strip() if current.strip().startswith(body) else ""
    if body and body[-1] not in ".!?:;":
        body += "."
    return " ".join(filter(None, (body, rng.choice(new), weights)))


def merged(current: str, revisions: list[str]) -> str:
    """Returns the first revision with what the others change about flaws and cases that it leaves alone."""
    base, first = vocabulary.read_weights(current), vocabulary.read_weights(revisions[0])
    taken = {flaw for flaw in flaws.FLAWS if first.get(flaw) != base.get(flaw)}
    changes: dict[str, float] = {}
    for revision in revisions[1:]:
        for flaw, weight in vocabulary.read_weights(revision).items():
            if flaw not in taken and weight != base.get(flaw):
                changes[flaw] = weight
                taken.add(flaw)
    text = vocabulary.reweighted(revisions[0], changes) if changes else revisions[0]
    rest, cases = own_cases(text)
    added = [case for revision in revisions[1:] for case in own_cases(revision)[1]]
    for case in added:
        if not any(case.same_conditions(known) for known in cases):
            cases = (*cases, case)
    if not added:
        return text
    stated = vocabulary.write_weights(vocabulary.own_weights(rest))
    return vocabulary.joined(vocabulary.without_weights(rest), write_cases(cases), stated)


def report_instruction(reading: Reading, senses: Senses, rng: random.Random) -> str:
    """Returns a new report instruction for a few flaws, half of them from the best that the prompt lists.

    Flaws that the judge's instruction ignores are requested less often: a report of them would change little.
    """
    best = best_tried(reading)
    known = vocabulary.requested(best.instruction) if best else ()
    ignored = [flaw for flaw, weight in vocabulary.read_weights(judge_instruction(reading)).items() if weight == 0]
    kept = _drawn(known, min(len(known), senses.traits.cues // 2), ignored, rng)
    fresh = [flaw for flaw in flaws.FLAWS if flaw not in kept]
    cues = [*kept, *_drawn(fresh, senses.traits.cues - len(kept), ignored, rng)]
    rng.shuffle(cues)
    return f"{rng.choice(_REPORT_OPENINGS)} Look for {vocabulary.listed(cues)}. {rng.choice(_REPORT_CLOSINGS)}"


def _drawn(names: Sequence[str], count: int, doubted: Sequence[str], rng: random.Random) -> list[str]:
    """Draws some names without replacement (Efraimidis and Spirakis 2006), doubted ones with a smaller chance."""
    keys = {name: rng.random() ** (1 / (_DOUBTED_CUES if name in doubted else 1.0)) for name in names}
    return sorted(names, key=lambda name: -keys[name])[:count]


def critique(reading: Reading, senses: Senses, count: int = 1) -> list[str]:
    """Returns what the mistakes share and in which direction the judge errs, as `count` separate remarks."""
    rng = senses.rng(reading.seed, "critique", reading.prompt, *(x for x in reading.images if x))
    found = blames(reading, senses, rng)
    if not found:
        return [_without_cues(mistakes(reading, senses))] * count
    remarks = [_remark(blame) for blame in found]
    if count == 1:
        return [" ".join(remarks[: senses.traits.edits])]
    return [remarks[i % len(remarks)] for i in range(count)]


def _without_cues(found: list[Mistake]) -> str:
    """What can be said where no flaw is reported."""
    if found and not any(mistake.too_high for mistake in found):
        return "The judge agrees with people here; nothing has to change."
    off = sum(mistake.too_high for mistake in found)
    rated = f"The pictures are rated too {'high' if off > 0 else 'low'}. " if off else ""
    return f"{rated}What the mistakes share is not reported here; the pictures need a closer look."


def _remark(blame: Blame) -> str:
    rated, count = ("high", "more") if blame.total > 0 else ("low", "less")
    flaw = blame.flaw
    return f"The mistakes share {flaw}: pictures with it are rated too {rated}, so that {flaw} should count {count}."
