"""Run by test_sync.py in a process of its own: engines that are given weights, and asked.

    python tests/sync_probe.py OUT

Random models of two layers, tied and untied, are moved and handed to a vLLM engine of ours, through
a gloo group whose other end is this process too; OUT gets the log-probs of both as JSON. With them
go the answers of both kinds of engine to prompts that are too long for one batch.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from algorithms.openrlhf import cpu

cpu.prepare_process()

import torch  # noqa: E402
import transformers  # noqa: E402
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: E402
from vllm import SamplingParams  # noqa: E402

from algorithms.openrlhf.engine import _InProcess  # noqa: E402
from benchmarks.engine import Engine as BenchmarkEngine  # noqa: E402

KINDS = ("Qwen2", "Qwen3", "Llama", "Olmo2")
TEXT = list(range(300, 340))  # token ids
VOCABULARY = 4096
CONTEXT = 512
PROMPTS, PROMPT_TOKENS, GROUP, NEW = 24, 300, 4, 8  # 28,800 tokens to prefill
ALONE = (0, 11, 23)  # prompts that are asked again, one at a time


def tokenizer():
    """Byte-level BPE, trained on this file."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train([__file__], trainers.BpeTrainer(vocab_size=400, special_tokens=["<end>", "<pad>"]))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<end>", pad_token="<pad>"
    )


def random_model(kind, tied):
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=tied,
        eos_token_id=0,
        pad_token_id=1,
        bos_token_id=None,
    )
    return getattr(transformers, f"{kind}ForCausalLM")(config).float()


def by_model(model):
    with torch.no_grad():
        log_pi = model(torch.tensor([TEXT])).logits[0, :-1].log_softmax(-1)
    return log_pi.gather(-1, torch.tensor(TEXT)[1:, None])[:, 0].tolist()


def by_engine(engine):
    asked = SamplingParams(max_tokens=1, prompt_logprobs=0, temperature=1.0)
    (output,) = engine.all_of([TEXT], [asked])
    return [
        found[token].logprob
        for token, found in zip(TEXT[1:], output.prompt_logprobs[1:], strict=True)
    ]


class Trainer:
    """The policy worker's end of the group."""

    def __init__(self, engine, port, threads):
        arguments = ("127.0.0.1", port, 1, 2)
        joined = threads.submit(cpu.GlooGroup, "127.0.0.1", port, 0, 2)
        engine.collective("init_process_group", arguments)
        self._engine, self._threads, self._group = engine, threads, joined.result()

    def in_one_message(self, weights):
        sent = self._threads.submit(
            self._group.broadcast, torch.cat([weight.reshape(-1) for weight in weights.values()]), 0
        )
        layout = [(name, weight.shape) for name, weight in weights.items()]
        self._engine.collective("receive_weights", (layout,))
        sent.result()

    def one_by_one(self, weights):
        """As OpenRLHF sends them; with ZeRO-3 that is what it does here too."""
        for count, (name, weight) in enumerate(weights.items(), start=1):
            sent = self._threads.submit(self._group.broadcast, weight, 0)
            arguments = (name, weight.dtype, weight.shape, count == len(weights))
            self._engine.collective("update_weight", arguments)
            sent.result()


class Engine(_InProcess):
    """Ours, with a call that does not have to be awaited."""

    def collective(self, method, arguments):
        return self._llm.collective_rpc(method, args=arguments)


def name_of(kind, tied):
    return f"{kind} {'tied' if tied else 'untied'}"


def trained(kind, tied, folder):
    """A random model on the disk, and (weights, log-probs) of it and of two that follow it."""
    model = random_model(kind, tied)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    states = []
    for _ in range(3):
        weights = {name: parameter.data.clone() for name, parameter in model.named_parameters()}
        states.append((weights, by_model(model)))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return states


def synced(states, folder, port, threads):
    """(model's, engine's) log-probs at the start and after weights moved, by both ways."""
    engine = Engine(
        model=str(folder), max_model_len=CONTEXT, enforce_eager=True, disable_log_stats=True
    )
    trainer = Trainer(engine, port, threads)
    measured = [(states[0][1], by_engine(engine))]
    for send, (weights, log_probs) in zip(
        (trainer.in_one_message, trainer.one_by_one), states[1:], strict=True
    ):
        send(weights)
        measured.append((log_probs, by_engine(engine)))
    return measured


def long_prompts(folder):
    """For each engine the samples of prompts asked together, and of some of them asked alone."""
    params = [
        {"n": GROUP, "temperature": 1.0, "top_p": 1.0, "max_tokens": NEW, "seed": 7 + 100 * i}
        for i in range(PROMPTS)
    ]
    ids = torch.randint(2, 400, (PROMPTS, PROMPT_TOKENS)).tolist()
    engine = Engine(
        model=str(folder), max_model_len=CONTEXT, enforce_eager=True, disable_log_stats=True
    )

    def in_training(chosen):
        asked = [SamplingParams(**params[i], detokenize=False) for i in chosen]
        outputs = engine.all_of([ids[i] for i in chosen], asked)
        return [[list(o.token_ids) for o in output.outputs] for output in outputs]

    benchmark = BenchmarkEngine(str(folder), context=CONTEXT, gpus=1, cpu=True)
    characters = torch.randint(97, 123, (PROMPTS, PROMPT_TOKENS)).tolist()
    problems = ["".join(map(chr, row)) for row in characters]

    def in_evaluation(chosen):
        return benchmark.generate([problems[i] for i in chosen], [params[i] for i in chosen])

    return {
        ask.__name__: (ask(range(PROMPTS)), [ask([i])[0] for i in ALONE])
        for ask in (in_training, in_evaluation)
    }


def free_port():
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def main():
    out = Path(sys.argv[1])
    # vLLM's engine of OLMo-2 is made of transformers' classes and changes them.
    states = {
        name_of(kind, tied): trained(kind, tied, out / name_of(kind, tied))
        for kind in KINDS
        for tied in (True, False)
    }
    with ThreadPoolExecutor(1) as threads:
        measured = {
            name: synced(of_model, out / name, free_port(), threads)
            for name, of_model in states.items()
        }
    measured["long prompts"] = long_prompts(out / "Qwen2 untied")
    (out / "measured.json").write_text(json.dumps(measured))


if __name__ == "__main__":
    main()
