"""Whom the ranks of a campaign name: its hall of fame, or the front of an algorithm that has one."""

from __future__ import annotations

from collections.abc import Mapping

from evo.ledger.ledger import Ledger
from evo.records import Checkpoint, Estimate, Fame


def ranked(ledger: Ledger, reached: Checkpoint, estimates: Mapping[str, Estimate]) -> tuple[Fame, ...]:
    """The champion, then the others of the hall of fame; where there is a front: then those of the front.

    ``estimates``: of qualities, by hash; the front is in their order, best first, without members that have failed.
    """
    if not reached.front:
        return reached.hall_of_fame
    champion = reached.hall_of_fame[:1]
    members = [ledger.individual(id) for id in reached.front]
    known = {fame.individual.hash for fame in champion}
    found = [Fame(i, estimates[i.hash], i.generation) for i in members if i.hash in estimates and i.hash not in known]
    return (*champion, *sorted(found, key=lambda fame: -fame.estimate.mean))
