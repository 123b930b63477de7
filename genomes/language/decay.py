"""The kinds of weight decay: one record each. The order is that in which mutation draws them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DecayKind:
    """A kind of weight decay: rate * pull is added to what it ``joins``, in the tensors whose role decays.

    ``joins``: ``g``, the gradient that all terms see, or ``u``, the direction after the gates; empty for no decay.
    ``pull``: an expression of the language over ``theta`` and what it joins. ``latex``: the same for TeX. ``known_as``:
    the field's name, where it is another.
    """

    name: str
    doc: str
    joins: str = ""
    pull: str = ""
    latex: str = ""
    known_as: str = ""
    source: str = ""


_RECORDS = [
    DecayKind("none", "no decay"),
    DecayKind("decoupled", "adds rate * theta to u", "u", "theta", r"\theta", "decoupled weight decay, as in AdamW",
              "Loshchilov & Hutter 2019, arXiv:1711.05101"),
    DecayKind("cautious", "adds rate * theta to u where u * theta >= 0", "u", "where(u * theta >= 0, theta, 0)",
              r"\theta\,[u\theta \geq 0]", "cautious weight decay", "Chen et al. 2025, arXiv:2510.12402"),
    DecayKind("coupled", "makes `g` mean g + rate * theta everywhere", "g", "theta", r"\theta", "L2 regularization"),
    DecayKind("start", "adds rate * (theta - theta_start) to u", "u", "theta - theta_start", r"(\theta - \theta_0)",
              "L2-SP", "Li et al. 2018, arXiv:1802.01483"),
]  # fmt: skip

DECAY_KINDS: dict[str, DecayKind] = {kind.name: kind for kind in _RECORDS}
DECAYING = tuple(kind.name for kind in _RECORDS if kind.joins)
