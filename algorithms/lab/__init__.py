"""The lab: tables of softmaxes in pure torch, trained by the algorithms that train LLMs.

A policy is a table of logits, a response is one action in one state, and everything that a paper
says about entropy can be computed exactly and repeated over many seeds in seconds. `trainer` calls
the hooks of algorithms/base.py and nothing else, so what is tested here is the object that OpenRLHF
runs. Each claim of a theorem has a file of its own, found through `checks.CHECKS`.

Shapes: _R runs (seeds, trained side by side), _S states, _V actions, _G samples of one state.
"""
