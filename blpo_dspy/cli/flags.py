"""Values of command-line flags, parsed."""

from __future__ import annotations

import re
from collections.abc import Iterable

from blpo_dspy.errors import BlpoError
from blpo_dspy.runs.jobs import Search
from blpo_dspy.runs.options.start import Start

# How a message writes an option of Python, and how the command line does, where neither follows from the name.
_WRITTEN = {
    "allow_fewer": ("; allow_fewer=True takes what there is", ""),
    "allow_outside": ("allow_outside=True", "--allow-outside"),
    "abandon": ("abandon=True", "--abandon"),
    "batch_api": ("batch_api=True", "--batch-api"),
    "image_column": ("image column ", "--image-column "),
    "reason_column": ("reason column ", "--reason-column "),
    "prices": ("prices={model: (prompt, completion)}", "--price MODEL=IN,OUT"),
    "raters": ("load_rated(…)", "--repeated-rows"),
    "scores": ("LabelSpace.scores(low, high)", "--scores LOW-HIGH"),
    "scale": ("scale=(lowest, highest)", "--source-option scale=LOWEST-HIGHEST"),
    "size": ("a smaller size=…", "smaller --sizes (evaluate: --draw)"),
    "token": (" or pass token=…", ""),  # read from the environment: a command line is public
    **{name: (f"{name}=", f"--source-option {name}=") for name in ("csv", "image_dir", "revision")},
}
# Columns that Python names in one record, and the command line by an option each.
_COLUMNS = re.compile(r"columns=Columns\(((?:\w+=…(?:, )?)+)\)")


def check_folds(start: Start, search: Search) -> None:
    """Checks that no option of a test set is given together with folds.

    Raises:
        BlpoError: If something is.
    """
    if start.judge is not None:
        raise BlpoError(
            "--folds judges every image by a judge that never saw it, and that of --start saw those it was compiled "
            "with: leave one of them out"
        )
    if start.test is not None:
        raise BlpoError(
            "--folds stands in for a test set, as every image is judged by a judge that never saw it: leave out "
            "--test, or leave out --folds and have the test set judged once"
        )
    if start.val is not None:
        raise BlpoError("--folds splits validation images off TABLE for each fold: put those of --val into TABLE too")
    if start.sizes is not None and start.data.source is None:
        raise BlpoError("--folds uses all of TABLE, K - 1 folds as train and val 70/30: leave out --sizes")
    if search.fidelity:
        raise BlpoError("--fidelity is measured on a test set, and with --folds there is none: leave one of them out")


def seed_list(text: str) -> tuple[int, ...]:
    """Returns the seeds of a comma-separated list.

    Raises:
        BlpoError: If the list is empty or one of them is not a whole number of at least zero.
    """
    listed = [seed.strip() for seed in text.split(",")]
    if not all(seed.isdecimal() for seed in listed):
        raise BlpoError(f"--seeds {text!r} is not a list of seeds; write whole numbers such as 0,1,2")
    return tuple(dict.fromkeys(map(int, listed)))


def model_prices(pairs: list[str] | None) -> dict[str, tuple[float, float]]:
    """Returns the prices that `--price MODEL=IN,OUT` states.

    Raises:
        BlpoError: If one is not of that form.
    """
    prices = {}
    for pair in pairs or ():
        name, equals, amounts = pair.rpartition("=")
        try:
            prompt, completion = (float(amount) for amount in amounts.split(","))
        except ValueError:
            equals = ""
        if not equals or not name.strip():
            raise BlpoError(
                f"--price {pair!r} is not MODEL=IN,OUT; write US dollars per million prompt and completion tokens, as "
                "in --price openai/my-model=0.15,0.60"
            )
        prices[name.strip()] = (prompt, completion)
    return prices


def with_flags(text: str, options: Iterable[str]) -> str:
    """Returns a message with the command line's flags instead of the options that it is about.

    Args:
        text: The message, with the options as Python writes them.
        options: Their names, as a `BlpoError` or `BlpoWarning` carries them.
    """
    text = _COLUMNS.sub(
        lambda found: " and ".join(f"--{name}-column" for name in re.findall(r"\w+(?==…)", found[1])), text
    )
    for option in options:
        flag = f"--{option.replace('_', '-')}"
        # A name that is followed by no value stands alone.
        text = re.sub(rf"\b{option}=(?![^\s,;.)])", flag, text)
        text = text.replace(*_WRITTEN.get(option, (f"{option}=", f"{flag} ")))
    return text


def given_texts(pairs: list[str], context: tuple[str, ...]) -> dict[str, str]:
    """Returns the context texts that `--context NAME=TEXT` states, one for each input that a judge takes.

    Raises:
        BlpoError: If a pair is not of that form, names no context input, or one is missing.
    """
    texts = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise BlpoError(f'--context {pair!r} is not NAME=TEXT; write it as in --context "prompt=a red car"')
        texts[name.strip()] = text
    if set(texts) != set(context):
        takes = f"takes {', '.join(context)}" if context else "takes no context"
        raise BlpoError(f"this judge {takes}: give one --context NAME=TEXT for each (got {', '.join(texts) or 'none'})")
    return texts
