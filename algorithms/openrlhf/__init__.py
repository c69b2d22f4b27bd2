"""The one seam to OpenRLHF 0.11.2: everything that knows its classes, flags or quirks lives here.

flags.py       a cell's settings -> the exact command line of openrlhf.cli.train_ppo_ray
experiment.py  what a cell is given besides flags, and what is expected of it
driver.py      plugs our classes in and runs that command line, unchanged
cpu.py         what a machine without a GPU needs; inert on one with a GPU

In the controller's process:

controller.py  a training run step by step, to its budget; it is made of the parts below
sampling.py    asks the engines for responses
workers.py     asks the policy workers, all at once or for a share of some batches
sync.py        that the engines have the weights that are trained, in every step
credit.py      the algorithm's advantages and marks of every token
second_rollout.py  what an algorithm samples besides
evaluation.py, probe.py  benchmarks and the entropy probe, at fractions of the budget
resuming.py, checkpoints.py  where a run stands, and the folders that keep it
rollouts.py    what is sampled as data, and the batches made of it

In the others:

actor.py       the policy workers: old log-probs, diagnostics, the policy on disk
trainer.py     in each of them: the algorithm's objective meets the logits
engine.py      the vLLM workers: whole groups per request, weights received
"""
