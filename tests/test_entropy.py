"""Token entropy: closed forms, a float64 reference, its gradient, and hostile logits."""

import math

import pytest

torch = pytest.importorskip("torch")

from algorithms.entropy import token_entropy  # noqa: E402


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
