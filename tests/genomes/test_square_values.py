"""Square values and products of two matrices: what the words mean, for matrices and for tensors of one column."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from genomes.backends.latex import expression as latex
from genomes.backends.torch_reference import optimizer
from genomes.compiler.identity import program_identity
from genomes.compiler.shapes import ShapeClass
from genomes.language.genome import GenomeError
from genomes.language.parser import parse_expression
from tests.genomes.drive import from_expression

SHAPES = [(1, 1), (1, 7), (7, 1), (5, 5), (6, 17), (33, 17)]


def values(text: str, gradients: list[np.ndarray], theta: np.ndarray | None = None, **genes: object) -> np.ndarray:
    """The direction of the last of as many steps as there are gradients; theta stays."""
    functions = optimizer(from_expression(text, **genes))
    shape = gradients[0].shape
    state = functions.init_state(
        bytes(32), [gradients[0].size], shapes=[shape], roles=["weight"], trainable=[True], layers=[0],
        device=torch.device("cpu"), dtype=torch.float64,
    )  # fmt: skip
    at = torch.zeros(shape, dtype=torch.float64) if theta is None else torch.from_numpy(theta)
    updates = [functions.step(state, [at], [torch.from_numpy(g)], 0, None, None)[0] for g in gradients]
    return -updates[-1].numpy()


def drawn(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(shape)


def rows_product(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x y^T, for a tensor of one column its diagonal."""
    return np.diag((x * y)[:, 0]) if x.shape[1] == 1 else x @ y.T


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products(shape: tuple[int, int]):
    g, theta = drawn(shape, 1), drawn(shape, 2)
    left, right = rows_product(g, theta), g.T @ theta
    for text, wanted in {
        "matmul(outer(g, theta), g)": left @ g,
        "matmul(g, inner(g, theta))": g @ right,
        "matmul(transpose(outer(g, theta)), g)": left.T @ g,
        "matmul(g, transpose(inner(g, theta)))": g @ right.T,
        "matmul(matmul(outer(g, theta), outer(g, g)), g)": left @ rows_product(g, g) @ g,
        "matmul(outer(g, theta) + 0.5 * identity(outer(g, g)), g)": (left + 0.5 * np.eye(shape[0])) @ g,
        "g * matrix_trace(outer(g, theta)) + matrix_trace(inner(g, theta))": g * np.trace(left) + np.trace(right),
        "rotate(g, outer(g, theta), inner(theta, g))": left.T @ g @ right.T,
        "rotate_back(g, outer(g, theta), inner(theta, g))": left @ g @ right,
        "matmul(matmul(outer(g, theta), 2), g)": 2 * left @ g,
        "matmul(2, g) + matmul(g, matrix_trace(inner(g, g)))": 2 * g + g * (g**2).sum(),
    }.items():
        np.testing.assert_allclose(values(text, [g], theta), wanted, rtol=1e-12, atol=1e-12, err_msg=text)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("p", [1, 2, 3, 4])
def test_inverse_root_is_that_of_the_eigenvalues(shape: tuple[int, int], p: int):
    """Of a regular and of a singular matrix, of both sides."""
    g = drawn(shape, 3)
    for text, a in (
        (f"matmul(inverse_root(outer(g, g), {p}, 1e-4), g)", rows_product(g, g)),
        (f"matmul(g, inverse_root(inner(g, g), {p}, 1e-4))", g.T @ g),
    ):
        eigenvalues, vectors = np.linalg.eigh(a)
        root = (vectors * (eigenvalues + 1e-4 * np.linalg.norm(a)) ** (-1 / p)) @ vectors.T
        wanted = root @ g if "outer" in text else g @ root
        np.testing.assert_allclose(values(text, [g]), wanted, rtol=1e-10, atol=1e-10 * np.abs(wanted).max())


def test_inverse_root_of_zero_is_zero_and_of_a_number_its_power():
    zero, g = np.zeros((3, 2)), drawn((3, 2))
    assert not values("matmul(inverse_root(outer(g, g), 4), theta)", [zero], g).any()
    assert not values("matmul(inverse_root(outer(g, g), 4), theta)", [zero[:, :1]], g[:, :1]).any()
    np.testing.assert_allclose(values("matmul(inverse_root(16 * t, 4, 0.1), g)", [g]), g * 17.6**-0.25)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gram_schmidt_is_the_qr_decomposition_with_a_positive_diagonal(shape: tuple[int, int]):
    g, theta = drawn(shape, 4), drawn(shape, 5)
    a = rows_product(g, theta) + 3 * np.eye(shape[0])
    q, r = np.linalg.qr(a)
    wanted = q * np.sign(np.diag(r)) @ theta
    text = "matmul(gram_schmidt(outer(g, theta) + 3 * identity(outer(g, g))), theta)"
    np.testing.assert_allclose(values(text, [g], theta), wanted, rtol=1e-10, atol=1e-10)


def test_eigenbasis_approaches_the_eigenvectors():
    g = np.linalg.qr(drawn((6, 6), 6))[0] * 0.5 ** np.arange(6) @ np.linalg.qr(drawn((6, 6), 7))[0]
    _, vectors = np.linalg.eigh(g @ g.T)
    theta = np.eye(6)
    found = values("matmul(eigenbasis(outer(g, g), 2), theta)", [g] * 81, theta)
    np.testing.assert_allclose(np.abs(found.T @ vectors[:, ::-1]), np.eye(6), atol=1e-9)
    np.testing.assert_array_equal(values("matmul(eigenbasis(outer(g, g), 2), theta)", [g] * 2, theta), theta)


def test_soap_is_adam_on_vectors_and_until_its_first_basis():
    for shape in ((9, 1), (4, 3)):
        gradients = [drawn(shape, seed) for seed in range(8)]
        np.testing.assert_allclose(
            values("soap(g, 0.9, 0.95, 8)", gradients),
            values("adam(g, 0.9, 0.95, 1e-8)", gradients), rtol=1e-12,
        )  # fmt: skip
    gradients = [drawn((9, 1), seed) for seed in range(30)]
    np.testing.assert_allclose(values("soap(g, 0.9, 0.95, 2)", gradients), values("adam(g, 0.9, 0.95)", gradients))


def test_shampoo_of_one_step_orthogonalizes():
    """L^(-1/4) g R^(-1/4) of L = g g^T, R = g^T g is u v^T."""
    g = drawn((5, 5), 8) + 3 * np.eye(5)
    u, _, v = np.linalg.svd(g)
    np.testing.assert_allclose(values("shampoo(g, 0, 1, 1e-8)", [g]), u @ v, atol=1e-3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("outer(g, g)", "a value of class left and one of class element have no entries in common"),
        ("g + inner(g, g)", "a value of class element and one of class right have no entries in common"),
        ("matmul(outer(g, g) + inner(g, g), g)", "class left and one of class right have no entries"),
        ("matmul(g, outer(g, g))", "matmul does not take a value of class element and left"),
        ("matmul(g, g)", "matmul does not take a value of class element and element"),
        ("matmul(transpose(g), g)", "transpose does not take a value of class element"),
        ("matmul(inverse_root(norm_row(g)), g)", "inverse_root does not take a value of class element"),
        ("matmul(outer(outer(g, g), g), g)", "outer does not take a value of class left and element"),
        ("norm(outer(g, g)) * g", "left"),
        ("matmul(outer(g, g) * norm_row(g), g)", "class left and one of class row have no entries in common"),
    ],
)
def test_other_classes_are_refused(text: str, said: str):
    with pytest.raises(GenomeError, match=said):
        from_expression(text)


def test_states_take_the_class_of_what_they_keep():
    lines = ["a from 0 = 0.9 * a + outer(matmul(g, b), g)", "b from 0 = inner(g, g) + 0 * b", "c = debias(ema(a, 0.9))"]
    program = from_expression("matmul(c, g)", let=lines)
    assert {slot.name: slot.shape for slot in program.slots} == {
        "a": ShapeClass.LEFT, "b": ShapeClass.RIGHT, "ema_1": ShapeClass.LEFT,
    }  # fmt: skip


def test_latex():
    for text, wanted in {
        "inverse_root(outer(g, g), 4)": r"(\mathrm{outer}(g, g))^{-1/4}",
        "transpose(inner(g, theta))": r"(\mathrm{inner}(g, \theta))^{\top}",
        "identity(outer(g, g))": "I",
    }.items():
        assert latex(parse_expression(text)) == wanted


def test_words_are_their_bodies():
    word = from_expression("rotate(g, outer(g, g), inner(g, g))")
    body = from_expression("matmul(matmul(transpose(outer(g, g)), g), inner(g, g))")
    assert program_identity(word) == program_identity(body)
