"""The advice says what the corrected intervals show, and no more."""

from suite.report.differences import comparisons
from suite.report.headline import headline
from suite.report.scores import Scores

PROBLEMS = 60


def scores(seeds=2, **correct):
    """Arms that solve each of the problems `correct` times of eight, give or take one."""

    def counts(hits):
        return {f"p{i:02d}": (8, max(0, min(8, hits + i % 3 - 1))) for i in range(PROBLEMS)}

    arms = {(arm, seed): counts(hits) for arm, hits in correct.items() for seed in range(seeds)}
    return Scores("m", "b", "model", [1, 2], arms, {})


def advice(**correct):
    of = scores(**correct)
    return headline(of, comparisons(of))


def test_an_arm_that_is_above_the_baseline_is_recommended_with_its_interval():
    """Three in eight more of every problem: the difference is 0.375 for certain."""
    said = advice(grpo=3, entreg=6)
    assert said[0] == (
        "Use entreg: its pass@1 is 0.375 [0.375, 0.375] above grpo's for the same budget."
    )
    assert "entreg elsewhere: pass@2 above." in said and said[-1] == "60 problems, 2 seeds."


def test_without_a_shown_difference_the_baseline_stays_and_the_power_is_told():
    said = advice(grpo=4, entreg=4)
    assert said[0] == "Stay with grpo: no arm is shown to be better."
    assert said[1].startswith("With 2 seeds a difference of 0.000 at pass@1 could be detected")


def test_arms_below_are_named_and_arms_above_are_not_ranked():
    said = advice(grpo=3, entreg=6, clip=5, aent=1)
    assert said[0].startswith("Use entreg: ")
    assert "Also above grpo: clip; they were not compared." in said
    assert "Below grpo at pass@1: aent." in said


def test_another_baseline_is_not_advice_to_stay_with_it():
    of = scores(grpo=4, entreg=4)
    said = headline(of, comparisons(of, "entreg"))
    assert said[0] == "No arm is shown to be better than entreg."


def test_one_seed_is_said_to_be_one():
    of = scores(seeds=1, grpo=4, entreg=4)
    assert headline(of, comparisons(of))[-1] == (
        "60 problems, 1 seed; nothing here says that another seed would agree."
    )


def test_nothing_to_compare_says_so():
    of = scores(grpo=4)
    assert headline(of, comparisons(of)) == ["Nothing to compare yet: grpo alone has been scored."]
    none = Scores("m", "b", "model", [], {}, {})
    assert headline(none, comparisons(none)) == ["No arm has been scored yet."]
