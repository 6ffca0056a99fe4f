"""What objects show in a notebook and in an interactive session."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from judges import SAFETY
from photographs import FIVE, photographs, student

from blpo_dspy.agreement.measure import measure_agreement
from blpo_dspy.comparison.compare import Comparison, ComparisonRow
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.splits import split_examples
from blpo_dspy.embedded.engine import embedded_lm
from blpo_dspy.notebook import html_table, share
from blpo_dspy.optimizers import BLPO
from blpo_dspy.optimizers.estimate import estimate
from blpo_dspy.programs import VisualJudge

EVIL = "<script>alert(1)</script> & ‘x’"
MOST = 300  # characters of a representation


class Cells(HTMLParser):
    """The cells of a table."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.cells: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes a tag."""
        self.tags.add(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        """Adds to the last cell."""
        if self.cells:
            self.cells[-1] += data


def test_every_cell_of_a_table_is_escaped() -> None:
    """Text of data and models is no markup."""
    table = Cells(html_table([["a", EVIL], [EVIL, 1.5]]))
    assert table.tags == {"table", "tr", "th", "td"}
    assert table.cells == ["a", EVIL, EVIL, "1.5"]
    assert (share(None), share(0.125)) == ("–", "0.12")


def shown() -> dict[str, object]:
    """Objects that people look at."""
    sets, lm = photographs(), embedded_lm()
    optimizer = BLPO(prompt_model=lm, task_model=lm, rounds=1, inner_steps=1)
    compiled = optimizer.compile(student(), trainset=sets["trainset"], valset=sets["valset"])
    return {
        "judge": VisualJudge(SAFETY, instruction=EVIL),
        "compiled": compiled,
        "splits": split_examples([*sets["trainset"], *sets["testset"]], labels=FIVE),
        "estimate": estimate(optimizer, student(), trainset=sets["trainset"], valset=sets["valset"]),
        "comparison": Comparison((ComparisonRow("blpo", 0, error=EVIL),), {"max_calls": 100}),
        "agreement": measure_agreement(FIVE, [1, 2, 3], [1, 2, 4]),
        "scores": measure_agreement(LabelSpace.scores(0, 100), [1.5, 20, 30], [1, 2, 90]),
        "result": compiled.detailed_results,
    }


@pytest.mark.slow
def test_what_people_look_at_is_short() -> None:
    """In text at most a few lines; in a notebook a table without files or scripts of its own."""
    for name, thing in shown().items():
        assert len(repr(thing)) < MOST, name
        if name != "result":
            page = thing._repr_html_()  # type: ignore[attr-defined]
            assert Cells(page).tags <= {"table", "tr", "th", "td", "p", "b"}, name
            assert "http" not in page
