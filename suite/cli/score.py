"""`suite eval|regrade`: scores of a checkpoint, and verdicts that are given again."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from suite.cli.run import run_cells
from suite.cli.terminal import (
    DEFAULT_DB,
    Address,
    Database,
    checked,
    console,
    exit_on,
    print_reports,
)
from suite.workspace import Workspace


def evaluate(  # noqa: PLR0913  options of a command line
    model: Annotated[
        str, typer.Argument(help="A path, a Hugging Face id, or a run of --db as ID or ID@STEP.")
    ],
    benchmarks: Annotated[str, typer.Option(help="Names or .jsonl files, commas between.")],
    samples: Annotated[
        int | None, typer.Option(min=1, help="Responses to each problem; 64 by default.")
    ] = None,
    pass_at: Annotated[str, typer.Option(help="Each k of pass@k, commas between.")] = "1,8,64",
    preset: Annotated[
        str, typer.Option(help="Sampling of a paper: aent, aepo-pass1, aepo-passk or clip.")
    ] = "",
    temperature: Annotated[float | None, typer.Option(min=0, help="1 by default.")] = None,
    top_p: Annotated[float | None, typer.Option(min=0, max=1, help="1 by default.")] = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="All tokens by default.")] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="4096 by default, 40 for the embedded model.")
    ] = None,
    max_prompt_tokens: Annotated[
        int | None, typer.Option(min=1, help="1024 by default, 48 for the embedded model.")
    ] = None,
    problems: Annotated[int | None, typer.Option(min=1, help="Only the first so many.")] = None,
    train_data: Annotated[
        str,
        typer.Option(help="What MODEL was trained on, to look for the problems in; a run knows."),
    ] = "",
    prompt_template: Annotated[
        str | None, typer.Option(help="boxed, qwen-math, or a text with {} for the problem.")
    ] = None,
    chat_template: Annotated[
        bool, typer.Option("--chat-template", help="Wrap prompts as the tokenizer's chat.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs, shared by the engines.")] = 1,
    engines: Annotated[
        int,
        typer.Option(min=1, help="Copies of the model, side by side; samples stay the same."),
    ] = 1,
    more: Annotated[
        bool, typer.Option("--more", help="Print pass^k, maj@k and the noise of sampling too.")
    ] = False,
    db: Database = DEFAULT_DB,
    address: Address = None,
) -> None:
    """Score a checkpoint: sample every problem, grade every response, print pass@k.

    Nothing is drawn twice: killed and started again it goes on, finished it prints at once, and
    with more --samples the ones that exist already count (sample j depends on its number alone).
    """
    from suite.matrix import checkpoint
    from suite.report import scorecard

    given = {"samples": samples, "temperature": temperature, "top_p": top_p, "top_k": top_k}
    cell = checked(
        checkpoint.from_options,
        model,
        Workspace(db),
        benchmarks=benchmarks.split(","),
        pass_at=pass_at,
        preset=preset,
        sampling={name: value for name, value in given.items() if value is not None}
        | {"max_new_tokens": max_new_tokens, "problems": problems},
        prompting=checkpoint.Prompting(prompt_template, chat_template, max_prompt_tokens),
        seed=seed,
        resources={"gpus": gpus, "engines": engines},
    )
    cell = checked(checkpoint.trained_on, cell, model, train_data, Workspace(db))
    exit_on(run_cells([cell], Workspace(db), address))
    print_reports(scorecard.card(db, cell, more))


def regrade(
    run: Annotated[str, typer.Argument(help="A run's id, as `suite status` shows it.")],
    apply: Annotated[
        bool, typer.Option("--apply", help="Let the new verdicts take the old ones' place.")
    ] = False,
    audit: Annotated[
        bool,
        typer.Option("--audit", help="Only grade its answers against other problems' golds."),
    ] = False,
    db: Database = DEFAULT_DB,
) -> None:
    """Grade a run's stored responses again with the grader of today and show what changed.

    With --audit: how often the grader takes a wrong answer for right. One in a thousand would make
    pass@1024 of a policy that knows nothing 64 %.
    """
    from rich.table import Table

    from suite.report import regrade as again

    if audit:
        print_reports([again.audit_report(checked(again.audit, Workspace(db), run))])
        return
    regraded = checked(again.regrade, Workspace(db), run)
    changed = sum(regraded.changed.values())
    table = Table("problem", "gold", "answer", "was", "is")
    for row in regraded.examples:
        table.add_row(*(escape(str(value)) for value in row))
    if changed:
        console.print(table)
    for (old, new), count in sorted(regraded.changed.items()):
        console.print(f"{count} x {old} -> {new}")
    console.print(f"{regraded.responses} responses graded again, {changed} verdicts differ")
    if apply and changed:
        again.apply(Workspace(db), run, regraded)
        console.print("the new verdicts and scores are in place")
