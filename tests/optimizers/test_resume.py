import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import dspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import answers, dump, records
from worlds import TRAIN, VALIDATION, student, world

from blpo_dspy.optimizers import APO, BLPO, OPRO, TextGrad
from blpo_dspy.optimizers.baselines import apo_prompts, opro_prompts, textgrad_prompts
from blpo_dspy.optimizers.blpo import prompts
from blpo_dspy.workspace.job import differences
from blpo_dspy.workspace.store import FILE_NAME, StoreError

pytestmark = pytest.mark.slow


def compiled(folder: Path, **options: Any) -> tuple[dspy.Module, int]:
    """Compiles with a journal and returns the program and the number of requests that were sent."""
    lm = world()
    options = {"rounds": 2, "inner_steps": 1, "batch_size": 4, "minibatch_size": 8, "num_threads": 4, **options}
    optimizer = BLPO(prompt_model=lm, task_model=lm, log_dir=folder, **options)
    program = optimizer.compile(student(), trainset=TRAIN[::3], valset=VALIDATION[::3])
    return program, len(lm.engine.seen)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dspy.Module, int]:
    """A run that ended by itself."""
    folder = tmp_path_factory.mktemp("run")
    program, calls = compiled(folder)
    return folder, program, calls


def saved(program: dspy.Module, folder: Path) -> bytes:
    """Returns the bytes of a judge's file."""
    program.save(folder / "judge.json")
    return (folder / "judge.json").read_bytes()


def test_a_finished_run_costs_nothing_again(finished: tuple[Path, dspy.Module, int], tmp_path: Path) -> None:
    """The same call with the same folder takes every answer from the journal and ends with the same records."""
    folder, program, calls = finished
    again, sent = compiled(folder)
    assert calls > 50
    assert sent == 0
    assert saved(again, tmp_path) == saved(program, tmp_path)
    assert again.detailed_results.rounds == program.detailed_results.rounds
    before, after = (p.detailed_results.ledger.total for p in (program, again))
    assert (before.calls, before.tokens) == (after.calls, after.tokens)


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_a_run_of_which_answers_are_missing_goes_on_and_ends_the_same(
    finished: tuple[Path, dspy.Module, int], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Wherever it was cut short, the run pays for the missing answers only and ends with the same bytes."""
    folder, program, calls = finished
    cut = tmp_path_factory.mktemp("cut")
    with closing(sqlite3.connect(folder / FILE_NAME)) as whole, closing(sqlite3.connect(cut / FILE_NAME)) as part:
        whole.backup(part)
        kept = data.draw(st.integers(0, calls))
        part.execute(
            "DELETE FROM answers WHERE rowid NOT IN (SELECT rowid FROM answers ORDER BY rowid LIMIT ?)", (kept,)
        )
        part.execute("DELETE FROM records WHERE kind != 'budget'")
        part.commit()
    again, sent = compiled(cut)
    assert sent == calls - kept
    assert saved(again, cut) == saved(program, cut)


def test_another_run_is_refused_naming_what_differs(finished: tuple[Path, dspy.Module, int]) -> None:
    """Other options, data or program in the same folder are no continuation; the store stays as it was."""
    folder, _, _ = finished
    before = records(folder), answers(folder)
    with pytest.raises(StoreError, match=r"options.seed: 0 there, 7 now"):
        compiled(folder, seed=7)
    lm = world()
    with pytest.raises(StoreError, match="train"):
        BLPO(
            prompt_model=lm,
            task_model=lm,
            log_dir=folder,
            rounds=2,
            inner_steps=1,
            batch_size=4,
            minibatch_size=8,
        ).compile(student(), trainset=TRAIN[::4], valset=VALIDATION[::3])
    assert (records(folder), answers(folder)) == before


def test_the_store_holds_no_image_and_no_key(finished: tuple[Path, dspy.Module, int]) -> None:
    """What is on disk are answers and records; images and keys are not among them."""
    text = dump(finished[0])
    assert "base64" not in text
    assert "iVBOR" not in text
    assert "api_key" not in text


def replaced(prompt: type[dspy.Signature]) -> type[dspy.Signature]:
    """A meta-prompt in other words."""
    return prompt.with_instructions(f"{prompt.instructions} Take care.")


META_PROMPTS = [
    (BLPO, "update_judge", prompts.UpdateJudge),
    (BLPO, "update_verbalizer", prompts.UpdateVerbalizer),
    (OPRO, "write_instruction", opro_prompts.WriteInstruction),
    (APO, "find_reasons", apo_prompts.FindReasons),
    (APO, "apply_reason", apo_prompts.ApplyReason),
    (APO, "vary_instruction", apo_prompts.VaryInstruction),
    (TextGrad, "criticize_output", textgrad_prompts.CriticizeOutput),
    (TextGrad, "criticize_instruction", textgrad_prompts.CriticizeInstruction),
    (TextGrad, "improve_instruction", textgrad_prompts.ImproveInstruction),
]


@pytest.mark.parametrize(("kind", "name", "prompt"), META_PROMPTS, ids=[name for _, name, _ in META_PROMPTS])
def test_other_meta_prompts_are_another_run(kind: Any, name: str, prompt: type[dspy.Signature]) -> None:
    """Other words, or another field, count; the same words do not."""
    lm = world()
    usual = kind(prompt_model=lm).options
    other = [replaced(prompt), prompt.append("hint", dspy.InputField(), type_=str)]
    found = [kind(prompt_model=lm, **{name: one}).options for one in (prompt, *other)]
    assert found[0] == usual
    assert [differences(usual, one)[0].partition(":")[0] for one in found[1:]] == [f"meta_prompts.{name}"] * 2


def test_a_journal_is_not_continued_with_other_meta_prompts(tmp_path: Path) -> None:
    """Its answers are those to other questions; the one that differs is named."""
    compiled(tmp_path, rounds=1)
    with pytest.raises(StoreError, match=r"options\.meta_prompts\.update_judge: 'sha256 .* there, 'sha256 .* now"):
        compiled(tmp_path, rounds=1, update_judge=replaced(prompts.UpdateJudge))
