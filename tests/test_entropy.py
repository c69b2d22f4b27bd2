"""Token and clamped entropy: closed forms, a float64 reference, gradients, hostile logits."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

import algorithms.entropy  # noqa: E402
from algorithms.entropy import clamped_entropy, token_entropy  # noqa: E402


def reference(logits):
    """-sum p log p in float64 by autograd, impossible tokens left out."""
    log_pi = torch.log_softmax(logits, dim=-1)
    return -torch.where(
        log_pi.isinf(), 0.0, log_pi.exp() * log_pi.masked_fill(log_pi.isinf(), 0.0)
    ).sum(-1)


def test_uniform_and_certain():
    assert token_entropy(torch.zeros(2, 8)).tolist() == pytest.approx([math.log(8)] * 2)
    assert token_entropy(torch.tensor([50.0, 0.0, 0.0])).item() == pytest.approx(0.0, abs=1e-6)


def test_two_tokens_by_hand():
    """p = 0.8, 0.2: -(0.8 ln 0.8 + 0.2 ln 0.2) = 0.500402."""
    assert token_entropy(torch.tensor([math.log(4.0), 0.0])).item() == pytest.approx(0.5004024)


@pytest.mark.parametrize("vocabulary", [2, 33, 1000, 152_064])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_value_and_gradient_equal_float64(vocabulary, dtype):
    generator = torch.Generator().manual_seed(vocabulary)
    logits = (3 * torch.randn(2, 3, vocabulary, generator=generator)).to(dtype)
    weights = torch.randn(2, 3, generator=generator).double()
    exact = logits.double().detach().clone().requires_grad_()
    (reference(exact) * weights).sum().backward()
    ours = logits.clone().requires_grad_()
    entropy = token_entropy(ours, chunk=4)
    (entropy.double() * weights).sum().backward()
    torch.testing.assert_close(entropy.double(), reference(exact), rtol=1e-5, atol=1e-6)
    precision = (
        {"rtol": 1e-2, "atol": 1e-6} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-6}
    )
    torch.testing.assert_close(ours.grad.double(), exact.grad, **precision)


def test_gradcheck_with_odd_chunks():
    logits = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: token_entropy(z, chunk=2), (logits,))


def test_impossible_tokens_count_for_nothing():
    logits = torch.tensor([0.0, 1.0, -math.inf], requires_grad=True)
    token_entropy(logits).backward()
    assert token_entropy(logits.detach()[:2]) == pytest.approx(
        float(token_entropy(logits.detach()))
    )
    assert torch.isfinite(logits.grad).all() and logits.grad[2] == 0


def test_no_graph_where_none_is_asked_for():
    with torch.no_grad():
        assert not token_entropy(torch.randn(2, 4, requires_grad=True)).requires_grad


@pytest.mark.parametrize(
    ("logits", "chunk"), [(torch.tensor(1.0), 8), (torch.ones(2, 0), 8), (torch.ones(2, 3), 0)]
)
def test_senseless_input(logits, chunk):
    with pytest.raises(ValueError, match=r"vocabulary|chunk"):
        token_entropy(logits, chunk=chunk)


def clamped_reference(logits, p):
    """Entropy of the top V - int(V p) logits alone, in the dtype given, by autograd."""
    kept = logits.topk(logits.shape[-1] - int(logits.shape[-1] * p), dim=-1).values
    return reference(kept)


@pytest.mark.parametrize("vocabulary", [2, 5, 33, 1000, 152_064])
@pytest.mark.parametrize("p", [0.0, 0.1, 0.33, 0.5, 0.98, 0.997])
def test_clamped_value_and_gradient_equal_float64(vocabulary, p):
    generator = torch.Generator().manual_seed(vocabulary)
    ours = (3 * torch.randn(3, vocabulary, generator=generator)).requires_grad_()
    weights = torch.randn(3, generator=generator).double()
    exact = ours.detach().double().requires_grad_()
    (clamped_reference(exact, p) * weights).sum().backward()
    entropy = clamped_entropy(ours, p, chunk=2)
    (entropy.double() * weights).sum().backward()
    close = {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(entropy.double(), clamped_reference(exact, p).detach(), **close)
    torch.testing.assert_close(ours.grad.double(), exact.grad, **close)


def test_ties_keep_exactly_the_right_number():
    """Ten equal logits, p = 0.33: 7 stay, whichever they are; 3, 1, 1, 1, 0 at p = 0.4: 3, 1, 1."""
    assert clamped_entropy(torch.zeros(4, 10), 0.33).tolist() == pytest.approx([math.log(7)] * 4)
    tied = torch.tensor([3.0, 1.0, 1.0, 1.0, 0.0], requires_grad=True)
    value = clamped_entropy(tied, 0.4)
    assert value.item() == pytest.approx(float(token_entropy(torch.tensor([3.0, 1.0, 1.0]))))
    value.backward()
    assert (tied.grad != 0).sum() == 3


def test_clamped_at_zero_is_the_token_entropy_bit_for_bit():
    logits = torch.randn(5, 17)
    assert torch.equal(clamped_entropy(logits, 0.0), token_entropy(logits))
    assert torch.equal(clamped_entropy(logits, 0.05), token_entropy(logits)), "int(17 * 0.05) = 0"


def test_clamped_with_impossible_tokens():
    logits = torch.tensor([0.0, 1.0, 2.0, -math.inf, -math.inf], requires_grad=True)
    value = clamped_entropy(logits, 0.2)
    value.backward()
    assert value.item() == pytest.approx(float(token_entropy(torch.tensor([0.0, 1.0, 2.0]))))
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("p", [-0.1, 1.0, math.nan])
def test_p_is_a_fraction(p):
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\)"):
        clamped_entropy(torch.zeros(2, 4), p)


def logits_of(kind, rows, vocabulary):
    """Logits in fp32, or in bf16 where the kind says so."""
    generator = torch.Generator().manual_seed(vocabulary)
    logits = 3 * torch.randn(rows, vocabulary, generator=generator)
    coin = torch.rand(rows, vocabulary, generator=generator)
    return {
        "normal": logits,
        "bf16": logits.bfloat16(),
        "bf16 in fp32": logits.bfloat16().float(),
        "integers": logits.round(),
        "equal": torch.full_like(logits, -1.5),
        "two values": (coin < 0.5).float(),
        "few possible": torch.where(coin < 0.7, -math.inf, logits).index_fill(
            1, torch.tensor([0]), 0.0
        ),
        "one possible": torch.full_like(logits, -math.inf).index_fill(1, torch.tensor([1]), 0.0),
        "sorted": logits.sort(-1).values,
        "periodic": logits[:, :7].repeat(1, vocabulary // 7 + 1)[:, :vocabulary],
        "tiny": logits * 1e-38,
        "far": logits * 1e4,
    }[kind]


def kept_by_order(logits, kept):
    """Value and gradient in float64 of the entropy of the `kept` highest logits of one row.

    Equal logits stand in the order of their columns, the last ones kept.
    """
    exact = logits.double().requires_grad_()
    order = logits.double().sort(stable=True).indices[logits.numel() - kept :]
    value = reference(exact[order])
    value.backward()
    return value.detach(), torch.nan_to_num(exact.grad, nan=0.0)


@pytest.mark.parametrize("vocabulary", [2, 3, 33, 16_384, 20_001, 151_936])
@pytest.mark.parametrize(
    "kind",
    [
        "normal",
        "bf16",
        "bf16 in fp32",
        "integers",
        "equal",
        "two values",
        "few possible",
        "one possible",
        "sorted",
        "periodic",
        "tiny",
        "far",
    ],
)
def test_hostile_logits(kind, vocabulary):
    """Value, gradient and the very tokens kept, for every share that is left out."""
    logits = logits_of(kind, 1, vocabulary)
    shares = [0.0, 0.33, 0.98] if vocabulary > 30_000 else [0.0, 0.25, 0.33, 0.5, 0.98, 0.997]
    for p in shares:
        value, gradient = kept_by_order(logits[0], vocabulary - int(vocabulary * p))
        ours = logits.clone().requires_grad_()
        entropy = clamped_entropy(ours, p)
        entropy.sum().backward()
        close = {"rtol": 1e-5, "atol": 1e-6}
        torch.testing.assert_close(entropy[0].double(), value, **close)
        rounded = {"rtol": 1e-2, "atol": 1e-6} if kind == "bf16" else close
        torch.testing.assert_close(ours.grad[0].double(), gradient, **rounded)
        if kind in ("normal", "bf16 in fp32", "integers", "sorted"):
            assert torch.equal(ours.grad[0] != 0, gradient.float() != 0), p


@pytest.mark.parametrize("vocabulary", [5, 20_000])
@pytest.mark.parametrize("p", [0.0, 0.4])
@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_row_that_is_no_distribution_gives_nan_and_spoils_no_other(vocabulary, p, poison):
    logits = torch.randn(3, vocabulary)
    alone = clamped_entropy(logits, p)
    logits[1, vocabulary // 2] = poison
    found = clamped_entropy(logits, p)
    assert found[1].isnan() and torch.equal(found[[0, 2]], alone[[0, 2]])
    logits[1] = -math.inf
    assert clamped_entropy(logits, p)[1].isnan(), "no token is possible"


@pytest.mark.parametrize("cut", ["columns", "tokens", "transposed", "one row", "no rows"])
@pytest.mark.parametrize("p", [0.0, 0.33])
def test_views_give_what_their_copies_give(cut, p):
    whole = torch.randn(3, 4, 20_000)
    view = {
        "columns": whole[..., ::2],
        "tokens": whole[:, :-1],
        "transposed": whole.transpose(0, 1),
        "one row": whole[0, 0],
        "no rows": whole[:0],
    }[cut]
    ours, copy = view.detach().requires_grad_(), view.contiguous().clone().requires_grad_()
    found, expected = clamped_entropy(ours, p), clamped_entropy(copy, p)
    assert found.shape == view.shape[:-1] and torch.equal(found, expected)
    found.sum().backward()
    expected.sum().backward()
    assert torch.equal(ours.grad, copy.grad)


def kept_of(logits, p, **how):
    """Which tokens get a gradient."""
    leaf = logits.clone().requires_grad_()
    clamped_entropy(leaf, p, **how).sum().backward()
    return leaf.grad != 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["normal", "bf16 in fp32", "integers", "few possible"])
def test_the_search_finds_what_kthvalue_finds(monkeypatch, kind, dtype):
    """The same tokens for any chunk, with the search and without it; also all but one, or one."""
    logits = logits_of(kind, 5, 30_000).to(dtype)
    shares = (1 / 30_000, 0.1, 0.33, 0.98, 1 - 1 / 30_000)
    searched = [kept_of(logits, p, chunk=2) for p in shares]
    monkeypatch.setattr(algorithms.entropy, "SEARCH_FROM", 10**9)
    selected = [kept_of(logits, p) for p in shares]
    assert all(map(torch.equal, searched, selected))


def test_without_numba_the_same_with_a_warning(monkeypatch):
    logits = logits_of("integers", 2, 20_000)
    compiled = kept_of(logits, 0.33)
    monkeypatch.setattr(algorithms.entropy, "SEARCH_FROM", 20_000)
    monkeypatch.setitem(sys.modules, "algorithms.selection", None)
    algorithms.entropy._compiled.cache_clear()
    try:
        with pytest.warns(UserWarning, match="without numba"):
            assert torch.equal(kept_of(logits, 0.33), compiled)
    finally:
        algorithms.entropy._compiled.cache_clear()


@pytest.mark.slow
def test_without_a_folder_that_can_be_written_the_loops_are_compiled_each_time():
    """As numba refuses to keep a function on disk then."""
    code = (
        "import numba.core.caching, torch\n"
        "numba.core.caching.CacheImpl._locator_classes = []\n"
        "from algorithms.entropy import clamped_entropy\n"
        "assert round(clamped_entropy(torch.zeros(1, 20_000), 0.25).exp().item()) == 15_000"
    )
    root = Path(algorithms.__file__).parents[1]
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], cwd=root, check=True)


def test_backward_twice_gives_the_same_and_twice_differentiable_is_refused():
    logits = torch.randn(2, 20_000, requires_grad=True)
    value = clamped_entropy(logits, 0.33).square().sum()
    (first,) = torch.autograd.grad(value, logits, retain_graph=True)
    (second,) = torch.autograd.grad(value, logits, create_graph=True)
    assert torch.equal(first, second)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        second.sum().backward()


@st.composite
def drawn_logits(draw):
    """One row of float32, of small integers (ties) or of any size, some tokens impossible."""
    small = st.integers(-3, 3).map(float)
    wide = st.floats(-60, 60, width=32)
    elements = st.one_of(small, wide) if draw(st.booleans()) else small
    row = draw(st.lists(elements, min_size=1, max_size=40))
    for at in draw(st.sets(st.integers(0, len(row) - 1), max_size=len(row) - 1)):
        row[at] = -math.inf if draw(st.booleans()) else row[at]
    return torch.tensor(row)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(drawn_logits(), st.floats(0, 0.999), st.integers(-50, 50), st.randoms())
def test_properties(logits, p, shift, random):
    size = logits.numel()
    kept = size - int(size * p)
    value, gradient = kept_by_order(logits, kept)
    ours = logits.clone().requires_grad_()
    entropy = clamped_entropy(ours, p)
    entropy.backward()
    close = {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(entropy.double(), value, **close)
    torch.testing.assert_close(ours.grad.double(), gradient, **close)
    assert -1e-6 <= entropy <= math.log(kept) + 1e-5
    assert ours.grad.sum().abs() <= 1e-5
    outside = logits.sort(stable=True).indices[: size - kept]
    assert (ours.grad[outside] == 0).all()
    shuffled = logits[random.sample(range(size), size)]
    torch.testing.assert_close(clamped_entropy(shuffled, p), entropy.detach(), **close)
    if torch.equal(logits, logits.round()):  # the shift is exact
        torch.testing.assert_close(clamped_entropy(logits + shift, p), entropy.detach(), **close)
    assert torch.equal(clamped_entropy(logits, 0.0), token_entropy(logits))
