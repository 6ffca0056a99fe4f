"""`blpo calibrate`: the confidence above which a judge's labels keep a level of agreement."""

from __future__ import annotations

from blpo_dspy.cli.begin import load_judge, note_offline, note_prices
from blpo_dspy.cli.jobs import CalibrateJob
from blpo_dspy.cli.judging.escalation import connected, doubting, for_people, names_by_role, note_cost
from blpo_dspy.cli.judging.evaluate import labelled
from blpo_dspy.cli.screen import Screen, cost_in_words, models_line, working
from blpo_dspy.errors import BlpoError
from blpo_dspy.files import as_path, check_path
from blpo_dspy.runs.calibration.calibrating import Promise, calibrated_on, check_calibration_set, with_confidence


def calibrate_judge(job: CalibrateJob, screen: Screen) -> int:
    """Calibrates a judge and writes it; returns the exit code: 0, or 1 if no threshold qualifies."""
    if as_path(job.out).suffix != ".json":
        raise BlpoError(f"--out {job.out}: a judge is saved as JSON; name a .json file")
    check_path(job.out)
    if (people := for_people(job.escalation)) is not None:
        raise BlpoError(f"--escalate-to {people} is a table for people, which `blpo judge` writes; leave it out here")
    judge = with_confidence(doubting(load_judge(job.judge, None), job.judge, job.escalation), None)
    promise = Promise(job.agreement, job.risk, job.within, job.orders)
    promise.check(judge.labels)
    examples, _ = labelled(job.data, judge, screen, job.draw, job.seed)
    check_calibration_set(judge, examples, promise)
    models = connected(judge, job.models, job.escalation)
    note_offline(job.models, screen, "model")
    note_prices(job.shared.prices, job.models, screen)
    note_cost(judge, len(examples), job.orders, screen)
    with working(screen) as watch:
        found = calibrated_on(judge, examples, promise, models, watch, job.run_dir)
    if found.chosen is not None:
        found.judge.save(job.out)
    used = names_by_role(job.models, job.escalation)
    if screen.as_json:
        screen.json({**found.to_dict(), "out": None if found.chosen is None else str(job.out), "models": used})
    else:
        screen.text(found.summary())
        screen.text()
        screen.text(f"Models  {models_line(used)}")
        screen.text(f"Calls   {found.ledger.total.calls:,}; {cost_in_words(found.ledger)}")
        screen.text("Nothing was written." if found.chosen is None else f"Wrote   {job.out}")
    return 0 if found.chosen is not None else 1
