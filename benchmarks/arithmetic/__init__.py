"""The embedded benchmark: arithmetic problems and a tiny model that one CPU core can train.

It exists so that every code path of the suite, from rollout to report, runs for real on a laptop:
`problems.py` writes the problems, `solutions.py` writes what the tiny model imitates before any
reinforcement learning, `recipe.py` fixes and hashes that warm start, `model.py` carries it out,
and `probe.py` measures the result. Nothing is imported here, so a planner pays for no torch.
"""
