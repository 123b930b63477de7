"""Plays the searches of `evo.search` on a landscape, as a campaign does."""

from __future__ import annotations

from statistics import fmean

from evo.recipe.schema import Recipe
from evo.search.protocol import algorithm
from harness.result import Training
from harness.train import STEPS_PER_EPOCH
from searching.play import Play

EPOCHS = 20  # that every training is taken to have run


def play_campaign(play: Play, recipe: Recipe) -> None:
    """Run generations until the budget is spent. A generation is a last one, which tries what it has, where another and
    a trial of two on the most instances would not fit after it. Raises OutOfBudget.
    """
    last_trial = 2 * recipe.gate.instances
    search = algorithm(recipe)(recipe, breeder=play.landscape.breeder(recipe))
    ids: dict[str, str] = {}
    costs: list[int] = []
    while True:
        before, generation = play.lanes, search.generation
        last = bool(costs) and before + fmean(costs) + max(fmean(costs), last_trial) > play.budget
        generations = generation + 1 if last else 1_000_000
        search.recipe = recipe.model_copy(
            update={"generations": generations, "lane_steps": play.budget * EPOCHS * STEPS_PER_EPOCH}
        )
        while search.generation == generation:
            champion = search.hall_of_fame[0].individual if search.hall_of_fame else None
            request = search.ask()
            answers = play.train((lane.hash, lane.instance) for lane in request.lanes)
            told = search.tell(
                {lane.key: _training(quality) for lane, quality in zip(request.lanes, answers, strict=True)}
            )
            ids |= {individual.id: individual.hash for individual in told.individuals}
            if told.statistics:
                for trial in told.statistics.trials:
                    assert champion is not None, "a trial has a champion"
                    play.noted(ids[trial.rivals[0]], ids[trial.challenger], trial.promoted)
            if search.hall_of_fame:
                best = search.hall_of_fame[0].individual
                play.declare(best.hash, best.is_founder, change=not recipe.gate.instances)
        costs.append(play.lanes - before)


def _training(quality: float | None) -> Training:
    status = "diverged" if quality is None else "finished"
    return Training(status, "", EPOCHS, 1, [1.0], [1.0], 0.1, 0.2, quality, None, 0.0)
