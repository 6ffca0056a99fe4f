"""Intervals that cover, tests that are exact, and words that follow the numbers."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, spearmanr

from blpo_dspy.agreement.figures import Tables, figure_names, figures_of
from blpo_dspy.agreement.intervals import (
    BETTER,
    MeanSd,
    PairedComparison,
    _sign_flip_p,
    agreement_intervals,
    compare_over_seeds,
    compare_paired,
    interval_over_seeds,
    mean_loss_interval,
    mean_sd,
    proportion_interval,
)
from blpo_dspy.agreement.measure import Agreement, measure_agreement
from blpo_dspy.agreement.outcomes import Outcomes
from blpo_dspy.agreement.resampling import distinct
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError

SAFETY = LabelSpace("Safe", "Unsafe")
STARS = LabelSpace.ordinal(1, 5)
SPACES = [SAFETY, STARS, LabelSpace("cat", "dog", "fox"), LabelSpace.ordinal(-1, 1)]
NO_CHANGE = "not distinguishable from no change"


def figures(space: LabelSpace, tables: np.ndarray) -> dict[str, np.ndarray]:
    """The figures of whole tables, shape (tables, labels, labels and invalid)."""
    true, guess = np.indices(tables.shape[1:]).reshape(2, -1)
    return figures_of(
        Tables(Outcomes.of(space), true, guess, tables.reshape(len(tables), -1).astype(float)), figure_names(space)
    )


Case = tuple[LabelSpace, list[Label], list[Label | None], list[Label | None]]


@st.composite
def judged(draw: st.DrawFn) -> Case:
    """Draws a label space, human labels and the labels of two judges."""
    space = draw(st.sampled_from(SPACES))
    n = draw(st.integers(1, 25))
    answers = st.lists(st.sampled_from([*space.labels, None]), min_size=n, max_size=n)
    return space, draw(st.lists(st.sampled_from(space.labels), min_size=n, max_size=n)), draw(answers), draw(answers)


@pytest.mark.slow
@settings(max_examples=50, deadline=None, derandomize=True)
@given(judged())
def test_figures_of_resamples_equal_scikit_learn_and_scipy(case: Case) -> None:
    """The vectorised figures and `measure_agreement` are the same functions of a confusion matrix."""
    space, truth, *judges = case
    measured = [measure_agreement(space, truth, predicted) for predicted in judges]
    found = figures(space, np.array([m.confusion for m in measured]))
    for i, (agreement, predicted) in enumerate(zip(measured, judges, strict=True)):
        losses = [space.loss(a, b) for a, b in zip(truth, predicted, strict=True)]
        assert found["mean_loss"][i] == pytest.approx(sum(losses) / len(losses))
        for name in found.keys() - {"mean_loss"}:
            value = getattr(agreement, name)
            assert np.isnan(found[name][i]) if value is None else found[name][i] == pytest.approx(value)


@pytest.mark.slow
@settings(max_examples=30, deadline=None, derandomize=True)
@given(judged(), st.sampled_from([0.5, 0.9, 0.95]))
def test_an_interval_holds_its_estimate_and_grows_with_its_level(case: Case, level: float) -> None:
    """It exists exactly where the figure does, is strict JSON, and lies within a wider one."""
    agreement = measure_agreement(*case[:3])
    narrow = agreement_intervals(agreement, level=level, resamples=100)
    wide = agreement_intervals(agreement, level=0.99, resamples=100)
    assert set(narrow) == {"accuracy", "macro_f1", "kappa", "invalid_rate", "spearman", "mae"}
    for name, interval in narrow.items():
        value, wider = getattr(agreement, name), wide[name]
        assert (value is None) == (interval is None)
        if interval is not None and wider is not None:
            assert wider.low - 1e-9 <= interval.low <= value + 1e-9
            assert value - 1e-9 <= interval.high <= wider.high + 1e-9
            assert not np.isnan([interval.low, interval.high]).any()


@pytest.mark.parametrize("labels", [LabelSpace("a", "b"), LabelSpace.ordinal(1, 5)])
def test_the_mean_loss_has_the_interval_of_its_mirror_image(labels: LabelSpace) -> None:
    """For nominal labels that is accuracy's; on a scale without invalid answers, the mean error's over its steps."""
    truth = [labels.labels[i % len(labels)] for i in range(30)]
    agreement = measure_agreement(labels, truth, truth[:20] + [labels.labels[0]] * 10)
    found, others = mean_loss_interval(agreement), agreement_intervals(agreement)
    assert found is not None
    if labels.ordered:
        assert others["mae"] is not None
        steps, other = len(labels) - 1, (others["mae"].low, others["mae"].high)
        assert (found.low * steps, found.high * steps) == pytest.approx(other, abs=0.1)
    else:
        assert others["accuracy"] is not None
        assert (1 - found.high, 1 - found.low) == pytest.approx((others["accuracy"].low, others["accuracy"].high))


def test_a_perfect_judge_still_has_an_interval() -> None:
    """Twenty right answers of twenty don't prove that all will be right."""
    truth: list[Label] = ["Safe", "Unsafe"] * 10
    intervals = agreement_intervals(measure_agreement(SAFETY, truth, truth))
    for name in ("accuracy", "macro_f1", "kappa"):
        interval = intervals[name]
        assert interval is not None
        assert interval.low < 0.95
        assert interval.high == 1.0


def test_the_same_seed_gives_the_same_intervals() -> None:
    """And another seed other ones."""
    agreement = measure_agreement(STARS, [1, 2, 3, 4, 5] * 10, [1, 3, 3, 4, 4, 2, 2, 3, 5, 5] * 5)
    assert agreement_intervals(agreement, seed=1) == agreement_intervals(agreement, seed=1)
    assert agreement_intervals(agreement, seed=1) != agreement_intervals(agreement, seed=2)


Judge = tuple[LabelSpace, np.ndarray, list[int]]


def nominal_judge() -> Judge:
    """Right 9 times of 10 on the first label and 8 of 10 on the second, with a few invalid answers."""
    return SAFETY, np.array([[0.90, 0.09, 0.01], [0.18, 0.80, 0.02]]), [50, 50]


def rare_label() -> Judge:
    """Five images of a hundred have the label that the judge gets right half of the time."""
    return SAFETY, np.array([[0.95, 0.05, 0.0], [0.5, 0.5, 0.0]]), [95, 5]


def ordinal_judge() -> Judge:
    """Errors of mostly one level, 2 % invalid: the case in which plain percentile and BCa intervals are too short."""
    levels = np.arange(5)
    shares = np.exp(-((levels[:, None] - levels) ** 2) / 0.4)
    return STARS, np.hstack([0.98 * shares / shares.sum(axis=1, keepdims=True), np.full((5, 1), 0.02)]), [20] * 5


@pytest.mark.slow
@pytest.mark.parametrize(("judge", "least"), [(nominal_judge, 0.90), (ordinal_judge, 0.90), (rare_label, 0.88)])
def test_intervals_cover_the_truth_as_often_as_they_say(judge: Callable[[], Judge], least: float) -> None:
    """Simulated at n = 100 with the counts of true labels as given, nominal 0.95, for accuracy, macro-F1 and kappa.

    Five images of a rare label are too few for more.
    """
    space, outcomes, counts = judge()
    rng = np.random.default_rng(3)
    true = {name: values[0] for name, values in figures(space, (outcomes * np.array(counts)[:, None])[None]).items()}
    rows = [rng.multinomial(count, row, size=400) for count, row in zip(counts, outcomes, strict=True)]
    tables = np.stack(rows, axis=1)
    found = figures(space, tables)
    names = ("accuracy", "macro_f1", "kappa")
    covered = dict.fromkeys(names, 0)
    for i, table in enumerate(tables):
        confusion = tuple(tuple(map(int, row)) for row in table)
        accuracy, f1, kappa = (float(found[name][i]) for name in names)
        agreement = Agreement(100, accuracy, f1, kappa, 0, 0.0, None, None, confusion, space)
        intervals = agreement_intervals(agreement, seed=i, resamples=600)
        for name in names:
            interval = intervals[name]
            assert interval is not None
            covered[name] += interval.low - 1e-9 <= true[name] <= interval.high + 1e-9
    for count in covered.values():
        assert least <= count / len(tables) <= 0.98, covered


@pytest.mark.slow
@settings(max_examples=30, deadline=None, derandomize=True)
@given(judged())
def test_flips_and_exact_tests_equal_brute_force(case: Case) -> None:
    """McNemar's test is SciPy's binomial test of the flips, and for nominal labels also the sign-flip test."""
    space, truth, before, after = case
    result = compare_paired(space, truth, before, after, resamples=20)
    rows = list(zip(truth, before, after, strict=True))
    fixed, broken = sum(a != t == b for t, a, b in rows), sum(a == t != b for t, a, b in rows)
    assert (result.n, result.fixed, result.broken) == (len(rows), fixed, broken)
    p = binomtest(fixed, fixed + broken).pvalue if fixed + broken else 1.0
    assert result.mcnemar_p == pytest.approx(p)
    if not space.ordered:
        assert result.p_value == pytest.approx(p)
    for name, difference in result.differences.items():
        if name != "mean_loss":
            old, new = (getattr(measure_agreement(space, truth, x), name) for x in (before, after))
            assert (difference.before, difference.after) == (pytest.approx(old), pytest.approx(new))
        assert difference.change == pytest.approx(difference.after - difference.before)
        assert difference.interval.low <= difference.change <= difference.interval.high


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.integers(-4, 4), max_size=9))
def test_the_sign_flip_test_is_exact(changes: list[int]) -> None:
    """It equals counting all sign patterns."""
    sums = [sum(s * c for s, c in zip(signs, changes, strict=True)) for signs in product((-1, 1), repeat=len(changes))]
    share = sum(abs(x) >= abs(sum(changes)) for x in sums) / len(sums)
    assert _sign_flip_p(np.array(changes, dtype=float)) == pytest.approx(share)


def brute_sign_flip(changes: list[int]) -> Fraction:
    """The same share by adding one change after the other, in whole numbers of sign patterns."""
    patterns = Counter({0: 1})
    for change in changes:
        grown: Counter[int] = Counter()
        for total, count in patterns.items():
            grown[total + change] += count
            grown[total - change] += count
        patterns = grown
    as_far = sum(count for total, count in patterns.items() if abs(total) >= abs(sum(changes)))
    return Fraction(as_far, 2 ** len(changes))


@pytest.mark.slow
@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from([-4, -1, 1, 1, 2, 2, 3]), min_size=100, max_size=200))
def test_the_sign_flip_test_is_exact_where_hardly_any_pattern_is_as_far(changes: list[int]) -> None:
    """A tiny chance is right in its leading digits, never zero or below."""
    for tried in (changes, [abs(change) for change in changes]):
        p = _sign_flip_p(np.array(tried, dtype=float))
        assert 0 < p <= 1
        assert p == pytest.approx(float(brute_sign_flip(tried)), rel=1e-9)


@pytest.mark.slow
def test_a_long_scale_costs_no_more_than_what_occurs_on_it() -> None:
    """A hundred images on a scale of 101 levels, of whose tables hardly a cell is filled."""
    space, rng = LabelSpace.ordinal(0, 100), random.Random(0)
    truth = [rng.choice(space.labels) for _ in range(100)]
    tracemalloc.start()
    result = compare_paired(space, truth, [rng.choice(space.labels) for _ in truth], list(truth))
    assert tracemalloc.get_traced_memory()[1] < 100_000_000
    tracemalloc.stop()
    assert result.verdict == "better"


def test_a_few_figures_give_the_same_verdict() -> None:
    """The headline's difference, of which the sentence tells, is always there."""
    space, truth = STARS, [1, 2, 3, 4, 5] * 8
    whole = compare_paired(space, truth, [3] * 40, truth)
    short = compare_paired(space, truth, [3] * 40, truth, figures=["kappa"])
    assert set(whole.differences) == {"accuracy", "macro_f1", "kappa", "mean_loss", "mae"}
    assert short.differences == {name: whole.differences[name] for name in ("kappa", "mean_loss")}
    assert short.wording == whole.wording


def simulate(space: LabelSpace, seed: int, right_before: float, right_after: float, n: int = 100) -> PairedComparison:
    """Compares two independent judges that know the label with a given probability and else guess."""
    rng = random.Random(seed)
    truth = [rng.choice(space.labels) for _ in range(n)]
    before, after = (
        [label if rng.random() < share else rng.choice(space.labels) for label in truth]
        for share in (right_before, right_after)
    )
    return compare_paired(space, truth, before, after, seed=seed, resamples=500)


@pytest.mark.parametrize("space", SPACES)
def test_noise_is_hardly_ever_called_better(space: LabelSpace) -> None:
    """Two judges that guess: at most 2 claims of an improvement in 20 seeds."""
    assert sum(simulate(space, seed, 0.0, 0.0).verdict == "better" for seed in range(20)) <= 2


@pytest.mark.parametrize("space", SPACES)
def test_a_large_gain_is_called_better_and_a_large_loss_worse(space: LabelSpace) -> None:
    """In accuracy and in mean loss, where lower is better."""
    assert simulate(space, 0, 0.1, 0.7).verdict == "better"
    assert simulate(space, 0, 0.7, 0.1).verdict == "worse"


@pytest.mark.slow
@settings(max_examples=30, deadline=None, derandomize=True)
@given(judged())
def test_the_wording_follows_the_numbers(case: Case) -> None:
    """No claim if the headline's interval spans zero or the exact test does not reject."""
    result = compare_paired(*case, resamples=100)
    headline = result.differences[result.headline]
    if headline.interval.low <= 0 <= headline.interval.high or result.p_value > 0.05:
        assert result.verdict == NO_CHANGE
    else:
        gain = -headline.change if result.headline == "mean_loss" else headline.change
        assert result.verdict == ("better" if gain > 0 else "worse")
    assert result.verdict in result.wording
    json.dumps(result.to_dict(), allow_nan=False)


def test_the_comparison_in_one_sentence() -> None:
    """Headline, interval, verdict and flips."""
    truth: list[Label] = ["Safe"] * 50 + ["Unsafe"] * 50
    after: list[Label | None] = ["Safe"] * 50 + ["Unsafe"] * 20 + ["Safe"] * 30
    sentence = compare_paired(SAFETY, truth, ["Safe"] * 100, after).wording
    assert sentence.startswith("accuracy 0.500 → 0.700 (+0.200, 95% interval +0.1")
    assert sentence.endswith("better; 20 fixed, 0 broken of 100, exact p = 1.9e-06")


def test_a_few_one_sided_flips_are_no_proof() -> None:
    """Five fixed and none broken: the interval leaves out zero, but the exact test does not reject."""
    truth: list[Label] = ["Safe"] * 50 + ["Unsafe"] * 50
    result = compare_paired(SAFETY, truth, ["Safe"] * 100, ["Safe"] * 50 + ["Unsafe"] * 5 + ["Safe"] * 45)
    assert result.mcnemar_p == pytest.approx(0.0625)
    assert result.verdict == NO_CHANGE


def judged_at(rng: random.Random, truth: list[Label], share: float) -> list[Label | None]:
    """Draws a judge that is right about such a share, and else says 1, or nothing."""
    return [label if rng.random() < share else rng.choice((1, None)) for label in truth]


def test_seeds_that_answer_alike_are_as_sure_as_one() -> None:
    """The interval of their mean is that of a single one, but for the draw, and so is the test."""
    rng = random.Random(0)
    truth: list[Label] = [rng.choice(STARS.labels) for _ in range(60)]
    before, after = (judged_at(rng, truth, share) for share in (0.5, 0.7))
    one = compare_paired(STARS, truth, before, after)
    found = compare_over_seeds(STARS, truth, [before] * 3, [after] * 3, [()] * 3)
    assert (found.seeds, found.headline, found.verdict) == (3, one.headline, one.verdict)
    assert found.p_value == pytest.approx(one.p_value)
    intervals = [(interval_over_seeds(STARS, truth, [after] * 3, [()] * 3, "macro_f1"), "macro_f1")]
    singles = [agreement_intervals(measure_agreement(STARS, truth, after))["macro_f1"]]
    intervals += [(found.differences[name].interval, name) for name in ("macro_f1", "mean_loss")]
    singles += [one.differences[name].interval for name in ("macro_f1", "mean_loss")]
    for (several, name), single in zip(intervals, singles, strict=True):
        assert several is not None, name
        assert single is not None, name
        assert (several.low, several.high) == pytest.approx((single.low, single.high), abs=0.02)
    alone = compare_over_seeds(STARS, truth, [before], [after], [()])
    assert alone.differences["macro_f1"] == one.differences["macro_f1"]


@pytest.mark.slow
def test_seeds_that_err_apart_are_surer_together() -> None:
    """The mean over seeds varies less with the images than any of them; the difference is that of the means."""
    rng = random.Random(0)
    truth: list[Label] = [rng.choice(STARS.labels) for _ in range(60)]
    before, after = ([judged_at(rng, truth, share) for _ in range(4)] for share in (0.4, 0.6))
    found = compare_over_seeds(STARS, truth, before, after, [()] * 4)
    singles = [compare_paired(STARS, truth, b, a) for b, a in zip(before, after, strict=True)]
    change = found.differences["macro_f1"]
    assert change.change == pytest.approx(sum(s.differences["macro_f1"].change for s in singles) / 4)
    width = change.interval.high - change.interval.low
    widths = [s.differences["macro_f1"].interval.high - s.differences["macro_f1"].interval.low for s in singles]
    assert width < min(widths)
    assert found.p_value < min(s.p_value for s in singles)


def test_an_example_that_failed_is_left_out_for_its_seed() -> None:
    """It is neither right nor wrong; a seed without any answer is refused."""
    truth: list[Label] = ["Safe"] * 6 + ["Unsafe"] * 6
    right: list[Label | None] = list(truth)
    lost: list[Label | None] = [None, None, *truth[2:]]
    same = compare_over_seeds(SAFETY, truth, [right, right], [right, lost], [(), (0, 1)])
    assert (same.p_value, same.differences["accuracy"].change) == (1.0, 0.0)
    assert compare_over_seeds(SAFETY, truth, [right], [lost], [()]).differences["accuracy"].change < 0
    with pytest.raises(BlpoError, match="nothing to compare"):
        compare_over_seeds(SAFETY, truth, [right], [lost], [range(12)])


def test_what_cannot_be_compared_is_refused() -> None:
    """Nothing, lists of different lengths, or an example without a human label."""
    with pytest.raises(BlpoError, match="None is not one of the labels"):
        compare_paired(SAFETY, [None], ["Safe"], ["Safe"])  # type: ignore[list-item]
    with pytest.raises(BlpoError, match="at least one example"):
        compare_paired(SAFETY, [], [], [])
    with pytest.raises(BlpoError, match="2 human labels, 1 labels before and 2 after"):
        compare_paired(SAFETY, ["Safe"] * 2, ["Safe"], ["Safe"] * 2)


def test_the_mean_over_seeds_has_the_sample_standard_deviation() -> None:
    """Undefined for one value."""
    assert mean_sd([0.2]) == MeanSd(0.2, None, 1)
    found = mean_sd([0.7, 0.5])
    assert (found.mean, found.sd) == (pytest.approx(0.6), pytest.approx(np.std([0.7, 0.5], ddof=1)))
    with pytest.raises(BlpoError, match="no values to average"):
        mean_sd([])


# --- scores ----------------------------------------------------------------------------------------------------------

SCORES = LabelSpace.scores(0, 100)


def noisy(truth: list[float], sd: float, seed: int) -> list[Label | None]:
    """Scores of a judge that is off by chance; the first answer states none."""
    rng = random.Random(seed)
    return [None, *(round(min(100.0, max(0.0, true + rng.gauss(0, sd))), 1) for true in truth[1:])]


def of_scores(n: int, seed: int = 0) -> list[float]:
    """So many scores, all different."""
    return [round(x, 2) for x in random.Random(seed).sample([i / 100 for i in range(10_001)], n)]


@pytest.mark.slow
@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 40), st.none() | st.integers(0, 40)), min_size=2, max_size=25))
def test_figures_of_resampled_scores_equal_those_measured(pairs: list[tuple[int, int | None]]) -> None:
    """Each resample as if its items had been measured; ties and constants included."""
    outcomes = Outcomes.of(SCORES, [label for pair in pairs for label in pair])
    observed = distinct(np.array([outcomes.positions(pair) for pair in pairs]))
    draws = np.random.default_rng(0).integers(0, 3, size=(5, len(observed.codes))).astype(float)
    draws[:, 0] += 1
    tables = Tables(outcomes, observed.codes[:, 0], observed.codes[:, 1], draws)
    found = figures_of(tables, figure_names(SCORES))
    for row, counts in enumerate(draws):
        values = [(*(([*outcomes.values, None])[code] for code in codes),) for codes in observed.codes]
        drawn = [pair for pair, count in zip(values, counts, strict=True) for _ in range(int(count))]
        expected = measure_agreement(SCORES, [true for true, _ in drawn], [said for _, said in drawn])
        for name in figure_names(SCORES):
            value = getattr(expected, name)
            assert found[name][row] == pytest.approx(np.nan if value is None else value, nan_ok=True), name


@pytest.mark.slow
def test_a_better_judge_of_scores_is_found_better_and_chance_is_not() -> None:
    """The verdict is on the mean loss; fixed and broken count by the tolerance."""
    truth = of_scores(150)
    before, after = noisy(truth, 25, 1), noisy(truth, 8, 2)
    found = compare_paired(SCORES, truth, before, after)
    assert found.headline == "mean_loss"
    assert found.verdict == BETTER
    assert set(found.differences) == {"accuracy", "mean_loss", "spearman", "pearson", "mae"}
    right = [[SCORES.right(t, said) for t, said in zip(truth, judge, strict=True)] for judge in (before, after)]
    assert found.fixed == sum(not b and a for b, a in zip(*right, strict=True))
    same = compare_paired(SCORES, truth, before, noisy(truth, 25, 3))
    assert same.verdict == NO_CHANGE
    assert compare_paired(SCORES, truth, after, after).p_value == 1
    seeds = compare_over_seeds(SCORES, truth, [before, before], [after, after], [[], [2]])
    assert seeds.verdict == BETTER
    assert set(seeds.differences) == {"mean_loss", "spearman"}


@pytest.mark.slow
def test_intervals_of_scores_have_a_width_and_cover() -> None:
    """Scores are all different, so that strata of equal ones would leave nothing to vary."""
    population = of_scores(4000, seed=9)
    truth = spearmanr(population[1:], noisy(population, 20, 5)[1:]).statistic
    covered = 0
    for seed in range(60):
        sample = random.Random(seed).sample(population, 60)
        agreement = measure_agreement(SCORES, sample, noisy([0.0, *sample], 20, seed)[1:])
        interval = agreement_intervals(agreement, seed=seed, resamples=400)["spearman"]
        assert interval is not None
        assert interval.high - interval.low > 0.05
        covered += interval.low <= truth <= interval.high
    assert covered >= 52


def test_the_interval_over_seeds_of_scores_holds_the_mean() -> None:
    """As of one seed, of several."""
    truth = of_scores(80)
    judges = [noisy(truth, 10, seed) for seed in (1, 2)]
    values = [measure_agreement(SCORES, truth, judge).spearman or 0.0 for judge in judges]
    interval = interval_over_seeds(SCORES, truth, judges, [[], []], "spearman")
    assert interval is not None
    assert interval.low < sum(values) / 2 < interval.high


def test_the_interval_of_a_share_is_that_of_scipy() -> None:
    """Clopper and Pearson's, and none of nothing."""
    interval = proportion_interval(7, 20, exact=True)
    assert interval is not None
    ends = binomtest(7, 20).proportion_ci(0.95, "exact")
    assert (interval.low, interval.high) == (ends.low, ends.high)
    assert proportion_interval(0, 0, exact=True) is None
    assert proportion_interval(0, 1, exact=True) is not None
