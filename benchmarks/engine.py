"""vLLM engines of one's own, for scoring a checkpoint outside a training run.

Inside a run the engines of the trainer do the same work. Both are asked for token ids only and the
whole chunk is decoded at once: detokenizing as samples grow costs more than sampling a small model.
`Replicas` are several engines with the same model, each in a process of its own: every request
carries its own seed, so how requests are shared out changes no sample.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from benchmarks.sampling import Response

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


# Without a GPU a prompt is prefilled whole: of one prefilled in parts, vLLM takes the seed's
# generator back to where it was, which one on a CPU cannot do. A batch takes so many, at least.
WHOLE_PROMPTS = 16384


class Engine:
    """One model, loaded once."""

    def __init__(
        self,
        model: str,
        *,
        context: int,
        gpus: int,
        cpu: bool,
        template: str | None = None,
        chat: bool = False,
    ):
        """Load the model.

        Args:
            model: path or Hugging Face id.
            context: tokens of prompt and response together.
            gpus: that share the model (tensor parallel).
            cpu: float32, no graph capture and whole prompts, for vLLM's CPU build.
            template: a text with {} for the problem, or None.
            chat: wrap the prompt in the tokenizer's chat template.
        """
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # one process fewer to start
        from vllm import LLM

        whole: dict[str, Any] = {
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(WHOLE_PROMPTS, context),
        }
        self._llm = LLM(
            model=model,
            max_model_len=context,
            tensor_parallel_size=gpus,
            dtype="float32" if cpu else "auto",
            enforce_eager=cpu,
            enable_prefix_caching=True,
            disable_log_stats=True,
            seed=0,
            **(whole if cpu else {}),
        )
        # vLLM's protocol of a tokenizer has less than those it loads.
        self._tokenizer = cast("PreTrainedTokenizerBase", self._llm.get_tokenizer())
        self._context = context
        self._render = renderer(self._tokenizer, template, chat)

    def generate(self, problems: list[str], params: list[dict[str, Any]]) -> list[list[Response]]:
        """For each problem its `params["n"]` responses, in order.

        Raises:
            ValueError: a prompt that leaves no room for `max_tokens`; it is never cut silently.
        """
        from vllm import SamplingParams, TokensPrompt
        from vllm.sampling_params import RequestOutputKind

        texts = [self._render(problem) for problem in problems]
        ids = [self._tokenizer(t, add_special_tokens=False)["input_ids"] for t in texts]
        for problem, tokens, request in zip(problems, ids, params, strict=True):
            if len(tokens) + request["max_tokens"] > self._context:
                raise ValueError(
                    f"a prompt of {len(tokens)} tokens and a response of {request['max_tokens']} "
                    f"exceed the context of {self._context}: {problem[:60]!r}; "
                    "raise max_prompt_tokens"
                )
        outputs = self._llm.generate(
            [TokensPrompt(prompt_token_ids=tokens) for tokens in ids],
            [
                SamplingParams(
                    **request, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY
                )
                for request in params
            ],
            use_tqdm=False,
        )
        decoded = iter(
            self._tokenizer.batch_decode(
                [list(sample.token_ids) for output in outputs for sample in output.outputs],
                skip_special_tokens=True,
            )
        )
        return [
            [(next(decoded), len(s.token_ids), s.finish_reason == "length") for s in output.outputs]
            for output in outputs
        ]


class Replicas:
    """The same model several times, side by side; used as an `Engine`."""

    def __init__(
        self, count: int, gpus: int, prepare: Callable[[], None], model: str, **settings: Any
    ):
        """Load all of them at the same time.

        Args:
            count: of engines.
            gpus: of each; 0 on a machine without.
            prepare: called first in each process; a function that can be pickled.
            model, settings: see Engine.

        Raises:
            RuntimeError: one of them did not start; its reason is in its output.
        """
        context = multiprocessing.get_context("spawn")
        self._processes, self._pipes = [], []
        for number in range(count):
            mine, theirs = context.Pipe()
            devices = ",".join(str(number * gpus + i) for i in range(gpus))
            process = context.Process(
                target=_serve,
                args=(theirs, devices, prepare, model, settings | {"gpus": max(gpus, 1)}),
            )
            process.start()
            theirs.close()
            self._processes.append(process)
            self._pipes.append(mine)
        for number in range(count):
            self._receive(number)

    def __enter__(self) -> Replicas:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes:
            pipe.close()  # they end when there is nothing more to read
        for process in self._processes:
            process.join(timeout=20)
            if process.is_alive():
                process.kill()

    def generate(self, problems: list[str], params: list[dict[str, Any]]) -> list[list[Response]]:
        """As Engine.generate; the requests are dealt out one by one, the results are in order."""
        count = len(self._pipes)
        for i, pipe in enumerate(self._pipes):
            pipe.send((problems[i::count], params[i::count]))
        parts = [self._receive(i) for i in range(count)]
        return [parts[i % count][i // count] for i in range(len(problems))]

    def _receive(self, number: int) -> Any:
        try:
            kind, value = self._pipes[number].recv()
        except EOFError as error:
            raise RuntimeError(f"engine {number} ended; its reason is in the log") from error
        if kind == "error":
            raise value
        return value


def _serve(
    pipe: Any, devices: str, prepare: Callable[[], None], model: str, settings: dict[str, Any]
) -> None:
    """A replica's process: answers requests until the other end is closed."""
    if devices:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices
    prepare()
    engine = Engine(model, **settings)
    pipe.send(("ready", None))
    while True:
        try:
            problems, params = pipe.recv()
        except EOFError:
            os._exit(0)  # an engine takes its time to say goodbye
        try:
            pipe.send(("ok", engine.generate(problems, params)))
        except ValueError as error:
            pipe.send(("error", error))


def renderer(tokenizer: Any, template: str | None, chat: bool) -> Callable[[str], str]:
    """From a problem to the text that the model is given, as training renders it."""

    def render(problem: str) -> str:
        if chat:
            messages = [{"role": "user", "content": problem}]
            return tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        return template.format(problem) if template else problem

    return render
