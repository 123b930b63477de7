"""The genetic algorithm of "Evolving Deep Learning Optimizers", in the genome form of its code.

A form is one to four terms, each a word of seven with a weight, and thirteen numbers and flags that all terms share:
learning rate, betas, epsilon, decay, whether there are averages and whether they are bias-corrected, a clip, a warm-up
and a cosine. A generation trains elites and children together; every child has two parents, chosen by tournament, is a
crossover of theirs and then mutates, with probabilities and steps that fall to half while the campaign goes on.

SGD, Adam, AdamW and RMSProp in this form, and random forms, are the first to breed. Other founders of the recipe are
trained and must be beaten, and have no children: they have no form.

Source: Marfinetz (2025), "Evolving deep learning optimizers", arXiv:2512.11853, and its code,
https://github.com/mmarfinetz/evo-optimizer (commit b767e5e), whose winner is the catalogue's ``evolved_2025``.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from evo.randomness import generator
from evo.recipe.limits import exceeded
from evo.recipe.schema import Recipe
from evo.recipe.search_settings import EvolvingOptimizers
from evo.records import Individual
from evo.search.breeding import named_founders
from evo.search.generational import Generational
from evo.search.protocol import Bred, Find
from genomes.language.genome import ONE, TENSOR_ROLES, Decay, Genome, Term
from genomes.language.parser import parse_expression
from harness.train import STEPS_PER_EPOCH

FORM = "form"  # the operator of children
MOST_TERMS = 4
ATTEMPTS = 100  # draws for a form within the limits
WORDS = ("gradient", "momentum", "rms_norm", "adam", "sign", "unit", "nesterov")


@dataclass(frozen=True)
class Form:
    """A genome of the paper. ``terms``: words of `WORDS` with their weights; ``log_*``: decimal logarithms."""

    terms: tuple[tuple[str, float], ...] = (("gradient", 1.0),)
    log_lr: float = -3.0
    beta1: float = 0.9
    beta2: float = 0.999
    log_epsilon: float = -8.0
    log_decay: float = -4.0
    mean: bool = True
    square: bool = True
    corrected: bool = True
    clips: bool = False
    clip: float = 1.0
    warms_up: bool = False
    warmup: int = 100
    cosine: bool = False

    @classmethod
    def restored(cls, state: dict[str, Any]) -> Form:
        """The inverse of ``asdict``, through JSON."""
        return cls(**{**state, "terms": tuple((word, weight) for word, weight in state["terms"])})


SEEDS = {
    "form_sgd": Form((("momentum", 1.0),), log_lr=-2.0, square=False, corrected=False),
    "form_adam": Form((("adam", 1.0),)),
    "form_adamw": Form((("adam", 1.0),), log_decay=-2.0),
    "form_rmsprop": Form((("rms_norm", 1.0),), beta2=0.99, mean=False, corrected=False),
}
_FLAGS = ("mean", "square", "corrected", "clips", "warms_up", "cosine")
_STEPS = {  # deviation of a mutation in steps, and the bounds
    "log_lr": (1.0, -5.0, -1.0),
    "beta1": (0.2, 0.0, 0.999),
    "beta2": (0.1, 0.0, 0.9999),
    "log_epsilon": (1.0, -10.0, -4.0),
    "log_decay": (1.0, -6.0, -2.0),
}


def genome_of(form: Form, name: str, steps: int) -> Genome:
    """What a form means. ``steps``: of a training, in which its cosine falls to 0."""
    g = f"clip(g, {form.clip:.4g})" if form.clips else "g"
    mean, square = (f"ema({x}, {beta:.6g})" for x, beta in ((g, form.beta1), (f"{g} * {g}", form.beta2)))
    if form.corrected:
        mean, square = f"debias({mean})", f"debias({square})"
    mean, square = mean if form.mean else g, square if form.square else f"{g} * {g}"
    epsilon = f"{10**form.log_epsilon:.3g}"
    words = {
        "gradient": g,
        "momentum": mean,
        "rms_norm": f"{g} / (sqrt({square}) + {epsilon})",
        "adam": f"{mean} / (sqrt({square}) + {epsilon})",
        "sign": f"sign({g})",
        "unit": f"{g} / (abs({g}) + {epsilon})",
        "nesterov": f"{mean} + 0.9 * ({g} - {mean})",
    }
    factors = [f"linear_warmup_steps({form.warmup})"] if form.warms_up else []
    factors += [f"0.5 * (1 + cos(3.141592653589793 * min(1, (t - 1) / {steps})))"] if form.cosine else []
    return Genome(
        name=name,
        lr=float(f"{10**form.log_lr:.4g}"),
        terms=tuple(Term(float(f"{weight:.4g}"), parse_expression(words[word], "")) for word, weight in form.terms),
        source="evolved, as in arXiv:2512.11853",
        decay=Decay("decoupled", float(f"{10**form.log_decay:.4g}"), TENSOR_ROLES),
        schedule=parse_expression(" * ".join(factors), "schedule") if factors else ONE,
    )


def random_form(rng: random.Random) -> Form:
    """A form of the first population."""
    return Form(
        terms=tuple((rng.choice(WORDS), rng.uniform(-1, 1)) for _ in range(rng.randint(1, 3))),
        log_lr=rng.uniform(-4, -2),
        beta1=rng.uniform(0.5, 0.99),
        beta2=rng.uniform(0.9, 0.9999),
        log_epsilon=rng.uniform(-9, -6),
        log_decay=rng.uniform(-5, -3),
        mean=rng.random() < 0.7,
        square=rng.random() < 0.7,
        corrected=rng.random() < 0.6,
        clips=rng.random() < 0.2,
        clip=rng.uniform(0.5, 2.0),
        warms_up=rng.random() < 0.3,
        warmup=rng.randint(50, 200),
        cosine=rng.random() < 0.3,
    )


def crossed(first: Form, second: Form, rng: random.Random) -> Form:
    """The first terms of one before the last terms of the other, at most four; all else from either."""
    head = first.terms[: rng.randint(1, len(first.terms))]
    tail = second.terms[rng.randint(0, len(second.terms) - 1) :]
    others = {f.name: getattr(rng.choice((first, second)), f.name) for f in fields(Form) if f.name != "terms"}
    return Form(terms=(*head, *tail)[:MOST_TERMS], **others)


def mutated(form: Form, settings: EvolvingOptimizers, rate: float, rng: random.Random) -> Form:
    """The form with some numbers, terms and flags changed; ``rate``: factor of all probabilities and steps."""
    step = settings.step * rate

    def happens(probability: float) -> bool:
        return rng.random() < probability * rate

    changed: dict[str, Any] = {}
    for name, (scale, low, high) in _STEPS.items():
        if happens(settings.numbers):
            changed[name] = min(max(getattr(form, name) + rng.gauss(0, scale * step), low), high)
    terms = [
        (word, min(max(weight * math.exp(rng.gauss(0, step)), -5.0), 5.0) if happens(settings.numbers) else weight)
        for word, weight in form.terms
    ]
    if happens(settings.structure):
        match rng.choice(("add", "remove", "change")):
            case "add" if len(terms) < MOST_TERMS:
                terms.append((rng.choice(WORDS), rng.uniform(-1, 1)))
            case "remove" if len(terms) > 1:
                terms.pop(rng.randrange(len(terms)))
            case "change":
                i = rng.randrange(len(terms))
                terms[i] = (rng.choice(WORDS), terms[i][1])
    for name in _FLAGS:
        if happens(settings.flags):
            changed[name] = not getattr(form, name)
    return replace(form, terms=tuple(terms), **changed)


class FormSearch(Generational):
    """See the module's text. The population: the last generation, elites and children."""

    def __init__(self, recipe: Recipe, *arguments: Any, **options: Any) -> None:
        assert isinstance(recipe.search, EvolvingOptimizers)
        self._settings = recipe.search
        self._kept: tuple[Individual, ...] = ()  # elites that train again
        self._forms: dict[str, Form] = {}  # of the population, by id
        self._new: dict[str, Form] = {}  # of those that are bred and not told yet
        super().__init__(recipe, *arguments, **options)

    def _first(self, bred: Bred) -> Sequence[Individual]:
        recipe = self.recipe
        population, forms = named_founders(self.breeder, self.start), dict[str, Form]()
        for name, form in SEEDS.items():
            if len(population) < recipe.population and self._fits(form):
                population.append(self._individual(len(population), form, name, (), "catalogue", forms))
        while len(population) < recipe.population:
            bred(len(population), recipe.population)
            index = len(population)
            form = self._random(generator(recipe.seed, 0, index, "random"))
            population.append(self._individual(index, form, f"random{index}", (), "random", forms))
        bred(recipe.population, recipe.population)
        self._kept, self._new = (), forms
        return population

    def _breed(self, bred: Bred) -> Sequence[Individual]:
        able = [i for i in self._population if self._estimate(i)]
        elites = self._best(able, self._settings.elites)
        count = self.recipe.population - len(elites)
        children: list[Individual] = []
        forms: dict[str, Form] = {}
        pool = [i for i in self._population if i.id in self._forms]
        while len(children) < count:
            bred(len(children), count)
            index = len(children)
            rng = generator(self.recipe.seed, self.generation, index, "form")
            parents = [self._parent(pool, rng) for _ in range(2)] if pool else []
            form = self._child([self._forms[parent.id] for parent in parents], rng)
            children.append(self._individual(index, form, f"g{self.generation}i{index}", parents, FORM, forms))
        bred(count, count)
        self._kept, self._new = elites, forms
        return children

    def _individual(
        self, index: int, form: Form, name: str, parents: Sequence[Individual], operator: str, forms: dict[str, Form]
    ) -> Individual:
        genome = genome_of(form, name, self.recipe.epochs * STEPS_PER_EPOCH)
        individual = self.breeder.individual(self.generation, index, genome, parents, operator)
        forms[individual.id] = form
        return individual

    def _parent(self, pool: Sequence[Individual], rng: random.Random) -> Individual:
        drawn = rng.sample(pool, min(self._settings.tournament, len(pool)))
        return max(drawn, key=lambda i: found.mean if (found := self._estimate(i)) else -math.inf)

    def _child(self, parents: Sequence[Form], rng: random.Random) -> Form:
        if not parents:
            return self._random(rng)
        rate = 1 - 0.5 * min(1.0, (self.generation - 1) / self._settings.annealing)
        first, second = parents
        drawn = (mutated(crossed(first, second, rng), self._settings, rate, rng) for _ in range(ATTEMPTS))
        return next(filter(self._fits, drawn), first)

    def _random(self, rng: random.Random) -> Form:
        for _ in range(ATTEMPTS):
            if self._fits(form := random_form(rng)):
                return form
        raise RuntimeError("no form of an optimizer is within the limits: raise limits.nodes or limits.states")

    def _fits(self, form: Form) -> bool:
        return exceeded(genome_of(form, "form", 1), self.recipe.limits) is None

    def _again(self, born: Sequence[Individual]) -> Iterable[Individual]:
        return self._kept

    def _survivors(self, born: Sequence[Individual]) -> Sequence[Individual]:
        population = (*self._kept, *born)
        forms = self._forms | self._new
        self._forms = {i.id: forms[i.id] for i in population if i.id in forms}
        return population

    def _state(self) -> Any:
        return {**super()._state(), "forms": {id: asdict(form) for id, form in self._forms.items()}}

    def _restore(self, state: Any, individual: Find) -> None:
        super()._restore(state, individual)
        self._forms = {id: Form.restored(form) for id, form in state["forms"].items()}


SEARCH = FormSearch
