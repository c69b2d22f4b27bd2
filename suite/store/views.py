"""The views of runs.db: what people, the report and the dashboard query.

Each says of itself what a row is, as its comment in the database too: `\\d` at the prompt of
`suite sql`, or `SELECT view_name, comment FROM duckdb_views()`.

A run can belong to several matrices. `runs`, `benchmarks` and the scores have a row for each of
them; traces, probes and evals are there once, labelled by the matrix that named the run last.
"""

from __future__ import annotations

from typing import NamedTuple

import duckdb

from algorithms.grpo import GRPO
from suite.metrics import LATE
from suite.text import as_sql

_PLAIN_GRPO = "r.algorithm = 'grpo' AND " + " AND ".join(
    f"r.settings->>'{name}' = '{getattr(GRPO(), name)}'" for name in GRPO.plain_if
)


class View(NamedTuple):
    """What a row is, and the query that makes it."""

    about: str
    query: str


VIEWS: dict[str, View] = {
    "runs": View(
        "a run in a matrix: settings, command line, versions, hardware, commit, status, cost",
        f"""
        WITH last AS (
            SELECT run, max(step) AS steps,
                   max(highest) FILTER (metric = 'gpu_hours') AS gpu_hours,
                   max(highest) FILTER (metric = 'differs_from_grpo') AS differs
              FROM data.latest GROUP BY run)
        SELECT c.matrix, c.arm, c.position, r.*, last.steps, last.gpu_hours,
               last.differs = 0
               AND NOT ({_PLAIN_GRPO}) AS inert
          FROM data.runs r LEFT JOIN data.cells c USING (run) LEFT JOIN last USING (run)""",
    ),
    "matrix_runs": View(
        "the place of a run in a matrix: its arm, model, seed and position",
        "SELECT matrix, arm, model, seed, run, position FROM data.cells",
    ),
    "arms": View(
        "an arm and its place among all that there ever were, which gives it its look",
        "SELECT arm, position FROM data.arms",
    ),
    "labels": View(
        "the matrix that named a run last, and its arm there",
        """
        SELECT run, arg_max(matrix, rowid) AS matrix, arg_max(arm, rowid) AS arm
          FROM data.cells GROUP BY run""",
    ),
    "traces": View(
        "one metric of one step: entropy, reward, clip_low, seconds/..., gpu_hours, ...",
        """
        SELECT l.matrix, l.arm, r.seed, t.run, t.step, t.metric, t.value
          FROM data.traces t JOIN data.runs r USING (run) LEFT JOIN labels l USING (run)""",
    ),
    "steps": View(
        "one metric of one step of a run and attempt; `traces` without the labels, and faster",
        "SELECT run, attempt, step, metric, value FROM data.traces",
    ),
    "latest": View(
        "the last value of one metric of a run, its step, and the highest value",
        """
        SELECT l.matrix, l.arm, r.seed, t.*
          FROM data.latest t JOIN data.runs r USING (run) LEFT JOIN labels l USING (run)""",
    ),
    "events": View(
        "anything else that happened to a run: started, resumed, warned, failed, finished",
        "SELECT run, attempt, time, kind, detail FROM data.events",
    ),
    "points": View(
        "a complete evaluation of a run, and what the run had cost by then",
        "SELECT run, step, fraction, gpu_hours, tokens, samples FROM data.points",
    ),
    "batches": View(
        "the samples of one problem that were drawn at once: verdicts, answers, examples",
        """
        SELECT run, attempt, step, fraction, benchmark, problem, first, n, seed, verdicts, stops,
               lengths, digests, answers, examples
          FROM data.batches""",
    ),
    "counts": View(
        "the samples of one problem at one complete evaluation in a matrix, and the right ones",
        """
        SELECT c.matrix, c.arm, c.model, c.seed, c.position, run, b.step, b.fraction, b.benchmark,
               b.problem, p.gpu_hours, p.tokens, sum(b.n)::INTEGER AS n,
               sum(count_of(b.verdicts, 'c'))::INTEGER AS correct
          FROM data.cells c JOIN data.batches b USING (run)
          JOIN data.points p USING (run, step, fraction)
         GROUP BY ALL""",
    ),
    "evals": View(
        "one problem at one evaluation point: counts of verdicts, tokens, example responses",
        """
        WITH problems AS (
            SELECT run, step, fraction, benchmark, problem, sum(n)::INTEGER AS n,
                   string_agg(verdicts, '' ORDER BY first) AS verdicts,
                   string_agg(stops, '' ORDER BY first) AS stops,
                   len(list_distinct(flatten(list(digests))))::INTEGER AS unique_responses,
                   sum(list_sum(lengths))::BIGINT AS tokens, arg_min(examples, first) AS examples
              FROM data.batches GROUP BY ALL)
        SELECT l.matrix, l.arm, r.seed, p.*, count_of(verdicts, 'c') AS correct,
               count_of(verdicts, 'w') AS wrong, count_of(verdicts, 'u') AS unparsed,
               count_of(verdicts, 't') AS timeout, count_of(stops, 'l') AS truncated
          FROM problems p JOIN data.runs r USING (run) LEFT JOIN labels l USING (run)""",
    ),
    "probes": View(
        "the entropy probe of one evaluation, an estimator a row, with its definition",
        """
        SELECT l.matrix, l.arm, r.seed, p.run, p.step, p.fraction, p.estimator, p.value,
               CASE p.estimator
                    WHEN 'full' THEN 'mean H_t, full vocabulary'
                    WHEN 'clamped' THEN 'mean H_t among the 67 % most likely tokens (p = 0.33)'
                    ELSE '-mean log pi of the tokens' END
               || ', nats, T = 1, on fixed responses of the base model' AS definition
          FROM data.probes p JOIN data.runs r USING (run) LEFT JOIN labels l USING (run)""",
    ),
    "benchmarks": View(
        "what a run was measured on: origin, hash, first prompt, problems it was trained on",
        """
        SELECT c.matrix, c.arm, r.model, r.seed, b.*
          FROM data.benchmarks b JOIN data.runs r USING (run) LEFT JOIN data.cells c USING (run)""",
    ),
    "pass_at_k": View(
        "a score with its 95 % interval, and the GPU-hours it took to get there",
        """
        SELECT c.matrix, c.arm, r.model, r.seed, s.*, p.gpu_hours
          FROM data.scores s JOIN data.runs r USING (run) LEFT JOIN data.cells c USING (run)
          LEFT JOIN data.points p USING (run, step, fraction)""",
    ),
    "leaderboard": View(
        "the last score of a run; its length, cost and overshoot by then; late mean of its entropy",
        f"""
        WITH last AS (
            SELECT run, max(step) AS steps, max(fraction) AS fraction
              FROM data.scores WHERE fraction > 0 GROUP BY run),
        ends AS (  -- the last values of a run, unless it has been trained further since
            SELECT l.run, l.steps, l.fraction, t.metric, t.step, t.value
              FROM last l JOIN data.latest t USING (run)
             WHERE metric IN ('entropy', 'response_length', 'gpu_hours', 'budget_fraction')),
        at_the_score AS (
            SELECT run, steps, fraction, metric, value FROM ends WHERE step <= steps
             UNION ALL
            SELECT e.run, e.steps, e.fraction, e.metric, arg_max(t.value, t.step)
              FROM ends e JOIN data.traces t
                   ON t.run = e.run AND t.metric = e.metric AND t.step <= e.steps
             WHERE e.step > e.steps GROUP BY ALL),
        late AS (  -- over the last steps before the score
            SELECT l.run, favg(t.value) AS entropy
              FROM last l JOIN data.traces t
                   ON t.run = l.run AND t.metric = 'entropy'
                  AND t.step > {1 - LATE} * l.steps AND t.step <= l.steps
             GROUP BY l.run),
        final AS (
            SELECT run, steps, fraction,
                   any_value(value) FILTER (metric = 'response_length') AS response_length,
                   any_value(value) FILTER (metric = 'gpu_hours') AS gpu_hours,
                   any_value(value) FILTER (metric = 'budget_fraction') - fraction AS overshoot
              FROM at_the_score GROUP BY run, steps, fraction)
        SELECT p.matrix, p.arm, p.model, p.seed, p.run, p.benchmark, p.k, p.score, p.low, p.high,
               late.entropy, f.response_length, f.gpu_hours, f.overshoot, f.steps, p.problems,
               p.samples
          FROM pass_at_k p JOIN final f USING (run, fraction) LEFT JOIN late USING (run)
         ORDER BY p.matrix, p.benchmark, p.k, p.score DESC""",
    ),
    "gpu_hours_to_score": View(
        "what a run spent until an evaluation reached another arm's best; NULL: not within spent",
        """
        SELECT goal.matrix, goal.model, goal.seed, goal.benchmark, goal.k, goal.arm AS reference,
               goal.score AS goal, p.arm,
               min(p.gpu_hours) FILTER (p.score >= goal.score) AS gpu_hours,
               max(p.gpu_hours) AS spent
          FROM (SELECT matrix, model, seed, benchmark, k, arm, max(score) AS score
                  FROM pass_at_k WHERE fraction > 0 GROUP BY ALL) goal
          JOIN pass_at_k p USING (matrix, model, seed, benchmark, k)
         GROUP BY ALL ORDER BY ALL""",
    ),
}


def create(db: duckdb.DuckDBPyConnection) -> None:
    """Make the views as they are today, with their comments."""
    db.execute(
        """CREATE OR REPLACE MACRO count_of(text, letter) AS
             (length(text) - length(replace(text, letter, '')))::INTEGER"""
    )
    for name, view in VIEWS.items():
        db.execute(f"CREATE OR REPLACE VIEW {name} AS {view.query}")
        db.execute(f"COMMENT ON VIEW {name} IS {as_sql(view.about)}")
