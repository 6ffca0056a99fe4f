"""Tests of a judge as a reward function, called as TRL's `GRPOTrainer` calls one, and by the trainer itself.

CI skips the latter, as TRL brings PyTorch; last run with trl 1.16.0, transformers 5.24.0 and torch 2.13.0.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import dspy
import pytest
from engines import Seen
from judges import SAFETY, SCALE, answers, judge_with, picture, seen_by
from PIL import Image

from blpo_dspy.errors import BlpoError, BlpoWarning, ModelError
from blpo_dspy.integrations.trl import judge_reward


def grey(value: int) -> Image.Image:
    """Returns a picture as `datasets` decodes it."""
    return Image.new("RGB", (8, 8), (value,) * 3)


def batch(count: int, **columns: Any) -> dict[str, Any]:
    """Returns the arguments of a reward function for a batch."""
    return {
        "prompts": [[{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Say what it is."}]}]]
        * count,
        "completions": [[{"role": "assistant", "content": f"caption {i}"}] for i in range(count)],
        "completions_ids": [[1, 2, 3]] * count,
        "trainer_state": object(),
        **columns,
    }


def by_caption(seen: Seen) -> Any:
    """Rates the first caption low, the second high; fails on the third and says nothing about the fourth."""
    if seen.fields == ["description"]:
        return {"description": "grey"}
    replies = {"caption 0": "1", "caption 1": "5", "caption 2": dspy.lm15.InvalidRequestError("refused")}
    found = replies.get(seen.field("caption"), "no idea")
    return found if isinstance(found, Exception) else {"label": found}


FIELDS = {"image": "images", "caption": "completion"}


def test_a_batch_is_rewarded_in_order_and_what_has_no_score_is_none() -> None:
    """A failed call and an answer without a label are counted apart, in warnings."""
    reward = judge_reward(judge_with(by_caption, SCALE, context=["caption"]), fields=FIELDS, num_threads=3)
    with pytest.warns(BlpoWarning) as warned:
        rewards = reward(**batch(4, images=[[grey(i)] for i in range(4)]))
    assert rewards == [0.0, 1.0, None, None]
    first, second = (str(warning.message) for warning in warned)
    assert first.startswith("1 of 4 completions got no reward, as they could not be judged: ")
    assert "refused" in first
    assert second == "1 of 4 completions got no reward, as the judge's answer states no valid label"


def test_standard_text_and_other_columns_are_read_as_they_are() -> None:
    """Prompts and completions that are text, an image column of single images."""
    judge = judge_with(answers("Safe"), SAFETY, context=["prompt", "completion", "style"], evidence="image")
    reward = judge_reward(judge, scores={"Safe": 0.75, "Unsafe": 0.0})
    columns: dict[str, Any] = {"image": [picture(7)], "style": ["dark"], "ground_truth": ["a"]}
    assert reward(prompts=["Draw."], completions=["Done."], **columns) == [0.75]
    (seen,) = seen_by(judge)
    assert [seen.field(name) for name in ("prompt", "completion", "style")] == ["Draw.", "Done.", "dark"]


def test_the_text_of_a_conversation_is_judged() -> None:
    """Text parts of its messages, one after the other; an image part is no text."""
    judge = judge_with(answers("3"), SCALE, context=["prompt"], evidence="image")
    judge_reward(judge, fields={"image": "images"})(**batch(1, images=[[grey(1)]]))
    assert seen_by(judge)[0].field("prompt").strip() == "Say what it is."


def test_completions_are_judged_at_the_same_time() -> None:
    """As many as there are threads."""
    barrier = threading.Barrier(4, timeout=20)

    def meet(seen: Seen) -> Any:
        barrier.wait()
        return {"label": "4"}

    reward = judge_reward(judge_with(meet, SCALE, evidence="image"), num_threads=4)
    assert reward(**batch(4, image=[grey(i) for i in range(4)])) == [0.75] * 4


def test_a_row_that_cannot_be_judged_has_no_reward() -> None:
    """A missing image, and text in its place; the others are rewarded."""
    reward = judge_reward(judge_with(answers("5"), SCALE, evidence="image"))
    with pytest.warns(BlpoWarning, match=r"2 of 3 completions .* \(and 1 more causes\)"):
        assert reward(**batch(3, image=[None, grey(1), "/etc/hostname"])) == [None, 1.0, None]


def test_a_column_that_is_missing_or_of_another_length_is_refused_before_any_call() -> None:
    """With its name."""
    judge = judge_with(answers("5"), SCALE)
    reward = judge_reward(judge)
    with pytest.raises(BlpoError, match="no column image; name"):
        reward(**batch(2, images=[grey(1)] * 2))
    for column in ([grey(1)], "ab"):
        with pytest.raises(BlpoError, match="image is not a column of 2 values"):
            reward(**batch(2, image=column))
    assert seen_by(judge) == []


def test_a_wrong_key_ends_the_training() -> None:
    """Rewards of None for every batch would go unnoticed."""
    reward = judge_reward(judge_with(lambda seen: dspy.lm15.AuthError("wrong key"), SCALE))
    with pytest.raises(ModelError, match="wrong key"):
        reward(**batch(2, image=[grey(1)] * 2))


def test_it_has_the_name_under_which_trl_logs_it() -> None:
    """Two judges need two."""
    judge = judge_with(answers("5"), SCALE)
    assert judge_reward(judge).__name__ == "judge_reward"
    assert judge_reward(judge, name="taste").__name__ == "taste"


def tiny_model() -> tuple[Any, Any]:
    """Returns an untrained language model of a few thousand weights, and its tokenizer of words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = {word: i for i, word in enumerate(["<pad>", "<eos>", "draw", "a", "square"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        pad_token_id=0,
        eos_token_id=1,
    )
    return (
        LlamaForCausalLM(config),
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>"),
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_trainer_of_trl_learns_from_it(tmp_path: Path) -> None:
    """Images come decoded from the dataset; the mean reward leaves out what has none."""
    pytest.importorskip("trl", reason="TRL is not installed: it brings PyTorch")
    from datasets import Dataset, Features, Value
    from datasets import Image as ImageFeature
    from trl import GRPOConfig, GRPOTrainer

    def by_grey(seen: Seen) -> Any:
        dark = f"data:image/png;base64,{seen.images[0]}" == picture(1)
        return dspy.lm15.InvalidRequestError("refused") if dark else {"label": "4"}

    judge = judge_with(by_grey, SCALE, context=["completion"], evidence="image")
    features = Features({"prompt": Value("string"), "picture": ImageFeature()})
    rows = {"prompt": ["draw a square"] * 2, "picture": [grey(1), grey(9)]}
    model, tokenizer = tiny_model()
    trainer = GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        reward_funcs=judge_reward(judge, name="taste", fields={"image": "picture"}),
        train_dataset=Dataset.from_dict(rows, features=features),
        args=GRPOConfig(
            output_dir=str(tmp_path),
            per_device_train_batch_size=4,
            num_generations=2,
            max_completion_length=4,
            max_steps=1,
            logging_steps=1,
            report_to=[],
            use_cpu=True,
            bf16=False,
        ),
    )
    trainer.train()
    (logged,) = (entry for entry in trainer.state.log_history if "rewards/taste/mean" in entry)
    assert logged["rewards/taste/mean"] == 0.75
    assert len(seen_by(judge)) == 4
