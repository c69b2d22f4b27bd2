"""The one seam to OpenRLHF 0.11.2: everything that knows its classes, flags or quirks lives here.

flags.py       a cell's settings -> the exact command line of openrlhf.cli.train_ppo_ray
driver.py      plugs our classes in and runs that command line, unchanged
controller.py  the single controller: budget, rollouts, rewards, traces, evaluation points
actor.py       the policy workers: the algorithm's objective meets the logits
engine.py      the vLLM workers: whole groups per request, weights received
cpu.py         what a machine without a GPU needs; inert on one with a GPU
"""
