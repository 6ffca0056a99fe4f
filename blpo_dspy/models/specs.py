"""A language model as plain data, from which another process builds an equal one; it never holds a key."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dspy

from blpo_dspy.errors import ModelError
from blpo_dspy.models.credentials import SECRET_NAME
from blpo_dspy.models.lm import Models, identity

_PLACEHOLDER = "EMPTY"  # the key that `make_lm` sends to a server that needs none


@dataclass(frozen=True)
class LMSpec:
    """The state of an LM as DSPy writes it, without keys, and the environment variable of each option that is one."""

    state: Mapping[str, Any]
    keys: Mapping[str, str]

    @classmethod
    def of(cls, lm: dspy.BaseLM) -> LMSpec:
        """Returns the spec of an LM.

        Raises:
            ModelError: If another process can't build an equal one: its class or its engine is not importable, or it
                holds a key that no environment variable has.
        """
        keys = {name: _variable(lm, name, value) for name, value in lm.kwargs.items() if _is_secret(name, value)}
        try:
            state = {name: value for name, value in lm.dump_state().items() if name not in keys}
            if lm.kwargs.get("api_key") == _PLACEHOLDER:
                state["api_key"] = _PLACEHOLDER
            spec = cls(state, keys)
            equal = identity(spec.build()) == identity(lm)
        except (AttributeError, ImportError, NotImplementedError, TypeError, ValueError) as error:
            raise _not_built(lm, str(error)) from error
        if not equal:
            raise _not_built(lm, "its state as DSPy writes it is not complete")
        return spec

    def build(self) -> dspy.BaseLM:
        """Returns an LM of this state; secrets come from the environment of this process."""
        missing = [variable for variable in self.keys.values() if variable not in os.environ]
        if missing:
            raise ModelError(f"model {self.state['model']!r}: {', '.join(missing)} is not set where this process runs")
        secrets = {name: os.environ[variable] for name, variable in self.keys.items()}
        # The state comes from a process of the same user, not from a file.
        return dspy.BaseLM.load_state({**self.state, **secrets}, allow_custom_lm_class=True)


@dataclass(frozen=True)
class ModelSpecs:
    """The models of a judge as plain data."""

    judge: LMSpec
    verbalizer: LMSpec

    @classmethod
    def of(cls, models: Models) -> ModelSpecs:
        """Returns the specs of judge and verbalizer."""
        return cls(LMSpec.of(models.judge), LMSpec.of(models.verbalizer))

    def build(self) -> Models:
        """Returns the models; no process but the first one writes instructions, so the judge's stands in for that."""
        judge = self.judge.build()
        return Models(judge, self.verbalizer.build(), judge)


def _is_secret(name: str, value: object) -> bool:
    return value is not None and value != _PLACEHOLDER and bool(SECRET_NAME.search(name))


def _variable(lm: dspy.BaseLM, name: str, value: object) -> str:
    """The environment variable with the value of a secret option."""
    found = next((variable for variable, known in sorted(os.environ.items()) if known == value), None)
    if found is None:
        raise ModelError(
            f"model {lm.model!r}: its option {name} is not the value of an environment variable, and keys are not "
            "passed on to other processes; export it, or run in one process (without workers= and cluster=)",
            option=("workers", "cluster"),
        )
    return found


def _not_built(lm: dspy.BaseLM, reason: str) -> ModelError:
    return ModelError(
        f"model {lm.model!r} cannot be built in another process ({reason}); name it, as in Models.named("
        "'openai/gpt-4o'), or run in one process (without workers= and cluster=)",
        option=("workers", "cluster"),
    )
