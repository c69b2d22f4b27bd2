"""Token and clamped entropy: closed forms, a float64 reference, gradients, hostile logits."""

import math

import pytest

torch = pytest.importorskip("torch")

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
