"""A ledger of a campaign that never was, as large as wanted, written with the ledger's own codec.

    python -m benchmarks.large_ledger RUN [GENOMES [GENERATIONS]]

Qualities rise over the generations; every genome is Adam with a learning rate of its own.
"""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from evo.campaign.folder import RunFolder
from evo.ledger import codec, file
from evo.ledger.codec import CONTENT, TIMES
from evo.ledger.ledger import Ledger
from evo.ledger.schema import COUNTS, EVALUATIONS, GENOMES, INDIVIDUALS, META, TELLS, canonical, checksum
from evo.recipe import reader
from evo.recipe.schema import Recipe
from evo.records import Champion, Estimate, Purpose, Statistics
from genomes import catalogue
from genomes.compiler.identity import genome_identity
from genomes.language.genome import dump
from harness.result import NUMERICS_VERSION, Training
from harness.task import Instance, seed_bytes

INSTANCES = 3  # that each genome is trained on
EPOCHS = 20
TEXT = dump(replace(catalogue.load("adam"), name="NAME", source="", oracle=""))
LR = next(line for line in TEXT.splitlines() if line.startswith("lr:"))
OPERATORS = ("mutate_lr", "mutate_node", "cross_terms", "cross_genes", "tune_constants")


@dataclass
class Writer:
    """Writes a campaign generation by generation; the last one may be written while others read."""

    folder: RunFolder
    population: int
    generations: int
    seed: int = 0
    tells: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def create(self) -> None:
        """Make the folder, the recipe and a ledger without generations."""
        self.folder.out.mkdir(parents=True)
        recipe = Recipe(
            name="large",
            population=self.population,
            generations=self.generations,
            epochs=EPOCHS,
            baselines=("adam",),
        )
        self.folder.recipe.write_text(reader.dump(recipe))
        facts = {
            "recipe": reader.dump(recipe),
            "numerics": str(NUMERICS_VERSION),
            "device": "cpu",
            "overrides": "[]",
            "versions": json.dumps({"python": "3"}),
            "created": "2026-01-01T00:00:00+00:00",
        }
        Ledger.create(self.folder.ledger, facts).close()

    def write(self, generations: int) -> None:
        """Write so many generations, in one transaction."""
        with contextlib.closing(file.connect(self.folder.ledger)) as connection, file.transaction(connection):
            for _ in range(generations):
                self._generation(connection)
            self._count(connection)

    def train(self) -> None:
        """Write one training that the next tell is to be about, in one transaction, as a campaign does."""
        member = self._member(self.tells, self.random.getrandbits(20))
        row = next(self._evaluations(self.tells, [member]))
        with contextlib.closing(file.connect(self.folder.ledger)) as connection, file.transaction(connection):
            connection.execute(GENOMES.insert, self._genome(member))
            connection.execute(EVALUATIONS.insert, row)
            self._count(connection)

    def _count(self, connection: sqlite3.Connection) -> None:
        """Note how many evaluations there are, as `Ledger.add` does."""
        counts = dict(connection.execute("SELECT status, count(*) FROM evaluations GROUP BY status"))
        connection.execute("DELETE FROM meta WHERE key = ?", (COUNTS,))
        connection.execute(META.insert, META.row(COUNTS, canonical(counts)))

    def _member(self, number: int, index: int) -> tuple[int, str, str, float]:
        lr = 10 ** self.random.uniform(-4, -2)
        text = TEXT.replace("NAME", f"g{number}i{index}", 1).replace(LR, f"lr: {lr:.12g}", 1)
        return index, f"{self.random.getrandbits(96):024x}", text, self._quality(number)

    def _generation(self, connection: sqlite3.Connection) -> None:
        number = self.tells
        members = [self._member(number, index) for index in range(self.population)]
        if number == 0:
            adam = catalogue.load("adam")
            members.append((self.population, genome_identity(adam), dump(adam), 0.4))
        best = max(quality for *_, quality in members)
        fame = [
            (f"g{number}i{index}", quality, 0.02, INSTANCES, number)
            for index, _, _, quality in sorted(members, key=lambda member: -member[3])[:10]
        ]
        champion = Champion(fame[0][0], fame[0][0], Estimate(best, 0.02, 3), Estimate(best - 0.4, 0.03, 3), "sign(g)")
        statistics = Statistics(
            best=Estimate(best, 0.02, 3),
            gain=Estimate(best - 0.4, 0.03, 3),
            median=best - 0.2,
            distinct=len(members),
            trained=len(members) * INSTANCES,
            lane_steps=len(members) * INSTANCES * EPOCHS * 8,
            baselines={"adam": Estimate(0.4, 0.01, 30)},
            champion=champion,
        )
        values = (number, Purpose.SEARCH.value, len(members), canonical(fame), canonical({}))
        told = TELLS.row(number, *values, canonical(statistics.to_dict()), times=(10.0,))
        connection.executemany(GENOMES.insert, map(self._genome, members))
        connection.execute(TELLS.insert, told)
        connection.executemany(INDIVIDUALS.insert, (self._individual(number, member) for member in members))
        connection.executemany(EVALUATIONS.insert, self._evaluations(number, members))
        self.tells += 1

    def _quality(self, number: int) -> float:
        return 0.35 + 0.3 * number / (number + 30) + self.random.gauss(0, 0.05)

    def _genome(self, member: tuple) -> tuple:
        _, hash, text, _ = member
        return GENOMES.row(checksum((hash, text)), hash, text)

    def _individual(self, number: int, member: tuple) -> tuple:
        index, hash, text, quality = member
        parents = [f"g{number - 1}i{self.random.randrange(self.population)}" for _ in range(2)] if number else []
        operator = self.random.choice(OPERATORS) if number else "random"
        values = (number, f"g{number}i{index}", checksum((hash, text)), canonical(parents), operator)
        return INDIVIDUALS.row(number, index, *values, codec.real(quality))

    def _evaluations(self, number: int, members: list[tuple]) -> Iterator[tuple]:
        for _, hash, text, quality in members:
            for k in range(INSTANCES):
                instance = Instance("tig", 4, seed_bytes(1_000_000 + number * INSTANCES + k))
                key = (hash, instance.task, 4, instance.seed.hex(), instance.init, instance.accuracy_factor, EPOCHS)
                training = self._training(quality + self.random.gauss(0, 0.03))
                values = (checksum((hash, text)), Purpose.SEARCH.value, number, *codec.to_row(training, CONTENT))
                yield EVALUATIONS.row(*key, *values, times=codec.to_row(training, TIMES))

    def _training(self, quality: float) -> Training:
        if self.random.random() < 0.02:
            return Training("diverged", "epoch 3: the loss is NaN", 4, None, [1.0], [1.0], None, 0.16, None, None, 0.5)
        losses = [round(1 / (epoch + 1) + self.random.random() / 10, 9) for epoch in range(EPOCHS)]
        return Training("finished", "", EPOCHS, EPOCHS - 1, losses, losses, 0.1, 0.16, quality, None, 0.5)


def write(path: Path, genomes: int = 100_000, generations: int = 100) -> Writer:
    """A campaign of so many genomes in the folder at ``path``, which may go on."""
    writer = Writer(RunFolder(path), genomes // generations, 10 * generations)
    writer.create()
    for _ in range(generations):
        writer.write(1)
    return writer


if __name__ == "__main__":
    write(Path(sys.argv[1]), *map(int, sys.argv[2:]))
