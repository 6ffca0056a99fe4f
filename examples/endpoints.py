"""Recipes for the servers that people run and rent: which name, which address, which pixels, and what they refuse.

Prints every recipe as DSPy will carry it out, and asks those that use the OpenAI protocol over HTTP on this machine,
the offline engine in their place. No key is needed and nothing leaves the machine.

    python examples/endpoints.py
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import dspy

from blpo_dspy import LabelSpace, Models, VisualJudge, make_lm
from blpo_dspy.data.images.prepare import PixelPolicy
from blpo_dspy.data.sources.photographs import RATERS, rated_photographs
from blpo_dspy.embedded.server.http import Options, start_server
from blpo_dspy.workspace.watch import quiet_libraries

# JPEG and PNG are read by every server; 1024 pixels and 1.5 MB, the defaults, lie below every limit that is named here.
PLAIN = PixelPolicy(formats=("JPEG", "PNG"))


@dataclass(frozen=True)
class Recipe:
    """One way to reach a judge.

    Attributes:
        where: The server or the service.
        start: How it is started or set up.
        judge: The name of judge and verbalizer.
        api_base: The address of a server of one's own, None for a service's.
        optimizer: The name of the optimizer, a strong model that is asked least; the judge's if None.
        limits: What it takes of images in one request, as its documentation says.
        policy: How images are prepared for it.
    """

    where: str
    start: str
    judge: str
    api_base: str | None = None
    optimizer: str | None = None
    limits: str = ""
    policy: PixelPolicy = field(default_factory=PixelPolicy)

    def models(self, api_base: str | None = None) -> Models:
        """Returns the models by role; another address stands in for the recipe's own."""
        base = api_base or self.api_base
        judge = make_lm(self.judge, api_base=base, role="judge")
        verbalizer = make_lm(self.judge, api_base=base, role="verbalizer")
        if self.optimizer is None or api_base is not None:
            return Models(judge, verbalizer, make_lm(self.judge, api_base=base, role="optimizer"))
        return Models(judge, verbalizer, make_lm(self.optimizer, role="optimizer"))  # another server, another key


# `openai/NAME` works at every OpenAI-compatible server too, but states the token limit as OpenAI wants it,
# max_completion_tokens; of the servers below not all know that. `hosted_vllm/NAME` states max_tokens, as all do.
RECIPES = (
    Recipe(
        "vLLM",
        "vllm serve Qwen/Qwen2.5-VL-7B-Instruct --max-model-len 16384",
        "hosted_vllm/Qwen/Qwen2.5-VL-7B-Instruct",
        "http://localhost:8000/v1",
        limits="as many as --limit-mm-per-prompt says: a judge needs 1, an optimizer that is shown images up to 10",
    ),
    Recipe(
        "Ollama",
        "ollama pull qwen2.5vl && OLLAMA_CONTEXT_LENGTH=16384 ollama serve",
        "ollama_chat/qwen2.5vl",
        "http://localhost:11434",
        limits="what is beyond its context length is cut off without a word; many versions read no WebP",
        policy=PLAIN,
    ),
    Recipe(
        "llama.cpp",
        "llama-server -m model.gguf --mmproj mmproj.gguf -c 16384 --port 8080",
        "hosted_vllm/local",
        "http://localhost:8080/v1",
        limits="no WebP, which some versions leave out without a word",
        policy=PLAIN,
    ),
    Recipe(
        "LM Studio",
        "lms server start",
        "lm_studio/qwen2.5-vl-7b-instruct",
        "http://localhost:1234/v1",
        limits="its model's",
        policy=PLAIN,
    ),
    Recipe(
        "OpenRouter",
        "export OPENROUTER_API_KEY=…",
        "openrouter/meta-llama/llama-4-maverick",
        optimizer="openrouter/deepseek/deepseek-r1",
        limits="those of the provider that it picks",
    ),
    Recipe(
        "OpenAI",
        "export OPENAI_API_KEY=…",
        "openai/gpt-4o-mini",
        optimizer="openai/o3",
        limits="500 images and 50 MB a request",
    ),
    Recipe(
        "Azure",
        "export AZURE_API_KEY=… AZURE_API_BASE=https://NAME.openai.azure.com AZURE_API_VERSION=2024-12-01-preview",
        "azure/gpt-4o-deployment",
        optimizer="azure/o3",
        limits="10 images a request, 20 MB each",
    ),
    Recipe(
        "Bedrock",
        "pip install boto3; export AWS_REGION=us-east-1, and credentials as for the AWS command line",
        "bedrock/us.meta.llama4-maverick-17b-instruct-v1:0",
        optimizer="bedrock/us.anthropic.claude-sonnet-4-20250514-v1:0",
        limits="20 images a message, 3.75 MB and 8,000 pixels a side each",
    ),
    Recipe(
        "Gemini",
        "export GEMINI_API_KEY=…",
        "gemini/gemini-2.5-flash",
        optimizer="gemini/gemini-2.5-pro",
        limits="20 MB a request; no GIF",
    ),
)


def described(recipe: Recipe) -> str:
    """Returns a recipe in a few lines, with the settings that each role gets."""
    models = recipe.models()
    lines = [f"{recipe.where}: {recipe.start}"]
    for role in ("judge", "verbalizer", "optimizer"):
        lm = getattr(models, role)
        settings = {name: value for name, value in lm.kwargs.items() if value is not None and name != "api_key"}
        lines.append(f"  {role:<11}{lm.model}  " + ", ".join(f"{name}={value}" for name, value in settings.items()))
    lines.append(f"  images     {recipe.limits}; sent as {', '.join(recipe.policy.formats)} up to "
                 f"{recipe.policy.max_side} pixels and {recipe.policy.max_bytes:,} bytes")  # fmt: skip
    return "\n".join(lines)


def asked(recipe: Recipe, photograph: bytes, folder: Path) -> str:
    """Returns what a judge answers over the wire, at this machine's stand-in for the recipe's server, and how."""
    log = folder / f"{recipe.where}.jsonl"
    with start_server(Options(log=log)) as base:
        path = urlsplit(recipe.api_base or "").path
        models = recipe.models(base.removesuffix("/v1") + path)
        judge = VisualJudge(LabelSpace.ordinal(1, 5), instruction="Rate the sharpness.", pixel_policy=recipe.policy)
        # DSPy's cache is bypassed: its key is model and request, so that it would answer for an earlier server.
        judge.verbalizer.lm, judge.judge.lm = models.verbalizer.copy(cache=False), models.judge.copy(cache=False)
        with dspy.context(disable_history=True):
            label = judge(image=photograph).label
    paths = {json.loads(line)["path"] for line in log.read_text(encoding="utf-8").splitlines()}
    return f"{recipe.where}: POST {', '.join(sorted(p for p in paths if 'chat' in p))} → {label}"


def main() -> None:
    """Runs the example."""
    photograph = rated_photographs(RATERS["sharp"], train=1, val=0, test=0).train[0].image
    with quiet_libraries(), tempfile.TemporaryDirectory() as folder:
        for recipe in RECIPES:
            print(f"{described(recipe)}\n")
        print("Asked over HTTP on this machine:")
        for recipe in RECIPES:
            if recipe.api_base is not None:
                print(f"  {asked(recipe, photograph, Path(folder))}")


if __name__ == "__main__":
    main()
