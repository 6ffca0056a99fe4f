"""The verbalizer's role: a picture becomes text, as far as the instruction says what to look for."""

from __future__ import annotations

import re

from blpo_dspy.embedded.reading import vocabulary
from blpo_dspy.embedded.reading.pictures import named_images, section
from blpo_dspy.embedded.reading.request import Reading
from blpo_dspy.embedded.sight import flaws
from blpo_dspy.embedded.sight.senses import Senses, present

_ALL_FLAWS = re.compile(
    r"\b(?:quality|technical(?:ly)?|natural\w*|realis\w+|safe\w*|aesthetic\w*|flaws?|faults?|defects?|distortions?"
    r"|degradations?|art[ei]facts?|imperfections?|problems?)\b",
    re.IGNORECASE,
)


def describe(reading: Reading, senses: Senses) -> str:
    """Returns a description in natural sentences: of the named pictures each in a section, or of the last picture."""
    named = named_images(reading)
    if named:
        return " ".join(section(name, _described(image, reading, senses)) for name, image in named.items())
    images = [image for image in reading.images if image is not None]
    return _described(images[-1] if images else None, reading, senses)


def _described(image: bytes | None, reading: Reading, senses: Senses) -> str:
    if image is None:
        return f"{vocabulary.UNSEEN}, so there is nothing to report about it."
    traits = senses.traits
    rng = senses.rng(reading.seed, "describe", reading.objective, image)
    scene = senses.perception(image).scene
    named = vocabulary.requested(reading.objective)
    if not named and not _ALL_FLAWS.search(reading.objective):
        seen = senses.look(image, rng, attention=traits.generic_share, noise=0.0, crowd=reading.images_in_all)
        levels = {flaw: level for flaw, level in seen.items() if level == flaws.LEVELS}
        return " ".join(filter(None, (scene, vocabulary.write_levels(levels, (), rng))))
    asked = named or flaws.FLAWS
    attended = [flaw for flaw in asked if rng.random() < traits.span / max(traits.span, len(asked))]
    seen = senses.look(image, rng, attention=1.0, noise=traits.describing_noise, crowd=reading.images_in_all)
    least = 1 if named else flaws.LEVELS - 1  # nobody named a flaw: only what is at least moderate is worth a word
    levels = {flaw: level for flaw in attended if (level := seen[flaw]) >= least}
    absent = [flaw for flaw in attended if named and flaw not in present(seen)]
    return " ".join(filter(None, (scene, vocabulary.write_levels(levels, absent, rng))))
