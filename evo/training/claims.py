"""Which hardware trains which instance, where machines of several kinds work together.

Genomes are compared on the instances that they share. So all lanes of an instance are trained by one kind of hardware:
the first to take a lane of it claims it. What different kinds compute differs by rounding, and that never gets into a
paired difference.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping

from evo.records import Lane
from evo.training.jobs import Job, group, ordered
from harness.task import Instance

SLACK = 2.0  # a kind claims an instance if it then ends within this many times what an even division would take


class Claims:
    """Lanes that wait for a worker, by instance, and the kind of hardware that each instance belongs to.

    ``settled``: the kind of each instance that has results: these stay where they are.
    """

    def __init__(self, settled: Mapping[Instance, str]) -> None:
        self._kinds, self._settled = dict(settled), set(settled)
        self._waiting: dict[Instance, deque[Lane]] = {}
        self._free: deque[Instance] = deque()
        self._owned: defaultdict[str, deque[Instance]] = defaultdict(deque)
        self._again: defaultdict[str, deque[Job]] = defaultdict(deque)
        self.lanes = 0  # that wait

    def add(self, lanes: Iterable[Lane]) -> None:
        """Let ``lanes`` wait, in the order in which `jobs.batches` has them."""
        for lane in ordered(lanes):
            self._wait(lane)

    def take(self, kind: str, batch: int, capacity: Mapping[str, int], outstanding: int) -> Job | None:
        """What a worker of ``kind`` is to train next, ``batch`` lanes at most; None for nothing.

        ``capacity``: lanes that all workers of each kind train at once; ``outstanding``: lanes that wait or are
        trained. A small kind claims nothing that would keep it busy when all others have come to their ends.
        """
        if self._again[kind]:
            job = self._again[kind].popleft()
            self.lanes -= len(job.unanswered)
            return job
        lanes: list[Lane] = []
        while len(lanes) < batch:
            if not self._owned[kind] and not self._claim(kind, capacity, outstanding):
                break
            queue = self._waiting[self._owned[kind][0]]
            if lanes and group(lanes[0]) != group(queue[0]):
                break
            while queue and len(lanes) < batch:
                lanes.append(queue.popleft())
            if not queue:
                del self._waiting[self._owned[kind].popleft()]
        self.lanes -= len(lanes)
        return Job(tuple(lanes)) if lanes else None

    def repeat(self, kind: str, jobs: Iterable[Job]) -> None:
        """Let ``jobs`` wait to be tried again, before all else, by a worker of ``kind``."""
        jobs = list(jobs)
        self._again[kind].extendleft(reversed(jobs))
        self.lanes += sum(len(job.unanswered) for job in jobs)

    def settle(self, instance: Instance) -> None:
        """Note that ``instance`` has a result."""
        self._settled.add(instance)

    def release(self, kind: str) -> None:
        """Give up the instances that ``kind``, which has no worker left, has claimed and no result of."""
        lost = [lane for job in self._again[kind] for lane in job.unanswered.values()]
        bound = self._settled
        if any(lane.instance in bound for lane in lost):  # a batch stays whole
            bound, lost = bound | {lane.instance for lane in lost}, []
        else:
            del self._again[kind]
            self.lanes -= len(lost)
        owned, self._owned[kind] = self._owned[kind], deque()
        for instance in owned:
            (self._owned[kind] if instance in bound else self._free).append(instance)
        self._kinds = {i: owner for i, owner in self._kinds.items() if owner != kind or i in bound}
        for lane in lost:
            self._wait(lane)

    def clear(self) -> None:
        """Forget all that waits."""
        self._waiting.clear()
        self._free.clear()
        self._owned.clear()
        self._again.clear()
        self.lanes = 0

    def kind(self, instance: Instance) -> str:
        """The kind of hardware that ``instance`` belongs to; empty while no lane of it was taken."""
        return self._kinds.get(instance, "")

    def wanted(self) -> list[str]:
        """The kinds that lanes wait for; empty for any kind."""
        return sorted(
            {kind for kind, jobs in self._again.items() if jobs} | {k for k, own in self._owned.items() if own}
        )

    def _wait(self, lane: Lane) -> None:
        instance = lane.instance
        if instance not in self._waiting:
            self._waiting[instance] = deque()
            kind = self._kinds.get(instance)
            (self._free if kind is None else self._owned[kind]).append(instance)
        self._waiting[instance].append(lane)
        self.lanes += 1

    def _claim(self, kind: str, capacity: Mapping[str, int], outstanding: int) -> bool:
        """Claim the next instance for ``kind``; whether there was one that it may have."""
        if not self._free:
            return False
        largest = max(sorted(capacity), key=lambda each: capacity[each])
        lanes = len(self._waiting[self._free[0]])
        even = outstanding / sum(capacity.values())
        if kind != largest and lanes / capacity[kind] > SLACK * even:
            return False
        instance = self._free.popleft()
        self._kinds[instance] = kind
        self._owned[kind].append(instance)
        return True
