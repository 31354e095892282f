"""The workers of one driver: who is there, who is idle, and the loop that keeps them busy.

Ray decides where an actor lives; everything else is decided here, because each of Ray's own answers was tried and is
wrong for bytes from strangers (docs/decisions/006-ray.md): its retries run a poison item four times, its actor pool
stops at the first dead actor, a GPU actor in a cluster without GPU waits forever.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import Any

from cloudbaker.compute.ray_worker import Worker, WorkerFacts
from cloudbaker.compute.textures.gpu_encoder import GpuFacts
from cloudbaker.errors import Cancelled, CloudBakerError, ComputeUnavailable
from cloudbaker.logs import get_logger

log = get_logger(__name__)

POLL_SECONDS = 0.5
"""Longest wait in one go: after that an exception that another thread injected (Prefect's timeouts) is delivered."""
CPU, GPU = "cpu", "cuda"
LOOK_AHEAD = 16
"""How many calls that find no room are held back at most while others pass them."""


@dataclass(frozen=True, slots=True)
class CrewOptions:
    """What one worker asks of the cluster, and how patient the driver is."""

    cpus: float = 0.5
    """Logical CPUs of a worker. It works on about one; half is asked for so that one driver takes at most half of the
    cluster and a bake finds room beside a long re-bake. The kernel shares the cores."""
    memory_bytes: int = 1 << 30
    """Logical memory of a worker, by the same reasoning half of what a job may use; the sandbox holds the limit. Work
    whose header says that it takes more gets a worker of twice, four times … as much."""
    gpus: float = 0.25
    """Share of a GPU for a worker that is tagged, and for the actor that encodes textures."""
    encoder: str = "cuda:0"
    """Device of that actor, as Warp calls it; ``cpu`` to try it out without a GPU, empty for none."""
    start_seconds: float = 60.0
    """How long a worker may take to start before the cluster counts as full."""
    idle_seconds: float = 300.0
    """An idle worker is let go after this, so that a notebook left open does not hold a cluster."""
    grace_seconds: float = 20.0
    """What the driver gives on top of a job's wall clock, which the worker's own sandbox enforces first."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Workers are interchangeable within a kind. A sandbox that trusts never serves work that does not."""

    device: str = CPU
    trusted: bool = False
    outer: str = ""
    memory_bytes: int = 0
    """Logical memory; a worker with more does the work of one with less."""

    def serves(self, other: Kind) -> bool:
        """Whether a worker of this kind can do what is for one of the other."""
        return replace(self, memory_bytes=other.memory_bytes) == other and self.memory_bytes >= other.memory_bytes


@dataclass(slots=True, eq=False)
class Hand:
    """One actor."""

    kind: Kind
    actor: Any
    started: Any
    """Reference of the call of `Worker.start`."""
    name: str
    facts: WorkerFacts | None = None
    """None until `started` has been read."""
    owner: object = None
    """The `drive` that has taken it; None while idle."""
    idle_since: float = 0.0


@dataclass(slots=True, eq=False)
class _Encoder:
    """The actor of a `GpuEncoder`."""

    actor: Any
    facts: GpuFacts | None = None
    """None until it is ready."""
    used: float = 0.0


class Crew:
    """The actors of this driver; thread-safe. `take` one, then `give` it back or `drop` it."""

    def __init__(self, options: CrewOptions | None = None) -> None:
        self.options = options or CrewOptions()
        self._change = threading.Condition()
        self._hands: list[Hand] = []
        self._idle: list[Hand] = []
        self._waiting = {CPU: 0, GPU: 0}
        self._sizes = {CPU: 1, GPU: 0}
        self._memory = 0
        """Bytes that the CPU workers of this driver may have together."""
        self._sized_at = float("-inf")
        self._full_until = float("-inf")
        self._counter = 0
        self._told_no_gpu = False
        self._closed = False
        self._reaper: threading.Timer | None = None
        self._encoder: _Encoder | None = None
        self._no_encoder_until = float("-inf")

    def size(self, device: str = CPU) -> int:
        """How many workers of a device class this driver may have: at most half of the cluster, at least one."""
        with self._change:
            if time.monotonic() - self._sized_at > 5.0:
                self._sizes = self._measure()
                self._sized_at = time.monotonic()
            return self._sizes[device]

    def device(self, gpu: bool) -> str:
        """The device class for work that wants a GPU or not: a GPU where the cluster has one, else the CPU at once."""
        if not gpu:
            return CPU
        if self.size(GPU):
            return GPU
        if not self._told_no_gpu:
            self._told_no_gpu = True
            log.warning("no GPU in the Ray cluster: work tagged for a GPU runs on the CPU")
        return CPU

    def kind(self, call: Call) -> Kind:
        """The workers that a call is for."""
        device = self.device(call.gpu)
        if device == GPU:
            return Kind(device, call.trusted, call.outer)
        memory = self.options.memory_bytes
        while memory < call.memory_bytes:
            memory *= 2
        if memory > self.options.memory_bytes:  # more than the largest node has, nobody can give
            memory = max(self.options.memory_bytes, min(memory, self._largest_memory()))
        return Kind(device, call.trusted, call.outer, memory)

    def take(self, kind: Kind, owner: object, *, wait: bool) -> Hand | None:
        """A worker of this kind for `owner`, idle or newly started; None if there is none now and `wait` is False.

        Who already has work in flight asks with ``wait=False`` and stands back while somebody else waits for a first
        worker, so that a bulk run never starves a single bake. Raises `Cancelled` after `close`.
        """
        size = self.size(kind.device)
        with self._change:
            while True:
                if self._closed:
                    raise Cancelled("the connection to Ray was closed while work was under way")
                if (wait or not self._waiting[kind.device]) and (hand := self._take_now(kind, owner, size)):
                    return hand
                if not wait:
                    return None
                self._waiting[kind.device] += 1
                try:
                    self._change.wait(POLL_SECONDS)
                finally:
                    self._waiting[kind.device] -= 1

    def _take_now(self, kind: Kind, owner: object, size: int) -> Hand | None:
        fit = [hand for hand in reversed(self._idle) if hand.kind.serves(kind)]
        if fit:
            hand = min(fit, key=lambda hand: hand.kind.memory_bytes)
            hand.owner = owner
            self._idle.remove(hand)
            if hand.facts and time.monotonic() - hand.idle_since > 1.0:
                # It may have died of old age or with its node: ask again, so that no innocent item pays with an
                # attempt. Costs one round trip, under a millisecond.
                hand.facts, hand.started = None, hand.actor.start.remote()
            return hand
        strangers = [hand for hand in self._idle if hand.kind.device == kind.device]
        busy = [hand for hand in self._hands if hand.kind.device == kind.device and hand not in strangers]
        if not self._room(busy, kind, size):
            return None
        while not self._room([*busy, *strangers], kind, size):
            self._forget(strangers.pop(0))
        return self._start(kind, owner)

    def _room(self, peers: list[Hand], kind: Kind, size: int) -> bool:
        """Whether this driver may have one more worker beside `peers`: the first always, then as many, and as much
        memory, as is its share."""
        if not peers:
            return True
        memory = kind.memory_bytes + sum(hand.kind.memory_bytes for hand in peers)
        full = time.monotonic() < self._full_until
        return len(peers) < size and not full and (kind.device == GPU or memory <= self._memory)

    def _start(self, kind: Kind, owner: object) -> Hand:
        import ray

        ask = self.options
        resources: dict[str, Any] = (
            {"num_cpus": 0, "num_gpus": ask.gpus}
            if kind.device == GPU
            else {"num_cpus": ask.cpus, "memory": min(kind.memory_bytes, self._largest_memory())}
        )
        remote: Any = ray.remote(Worker)
        once = remote.options(max_restarts=0, max_task_retries=0, max_concurrency=1, **resources)
        actor: Any = once.remote(kind.trusted, kind.outer)
        self._counter += 1
        hand = Hand(kind, actor, actor.start.remote(), f"{kind.device}-{self._counter}", owner=owner)
        self._hands.append(hand)
        return hand

    def encoder(self) -> Any | None:
        """The actor of a `GpuEncoder`; None while there is none: no GPU, not ready yet, or no use.

        Never waits: who asks first starts it, and the CPU does the work meanwhile.
        """
        device = self.options.encoder
        if not device or (device != CPU and not self.size(GPU)):
            return None
        with self._change:
            if self._closed or time.monotonic() < self._no_encoder_until:
                return None
            if self._encoder is None:
                self._encoder = self._start_encoder(device)
            self._encoder.used = time.monotonic()
            return self._encoder.actor if self._encoder.facts else None

    @property
    def encoder_facts(self) -> GpuFacts | None:
        """What the actor of `encoder` says about itself; None while it is not ready."""
        with self._change:
            return self._encoder.facts if self._encoder else None

    def _start_encoder(self, device: str) -> _Encoder:
        import ray

        from cloudbaker.compute.textures.gpu_encoder import GpuEncoder

        gpus = 0 if device == CPU else self.options.gpus
        remote: Any = ray.remote(GpuEncoder)
        # As many callers as there can be workers: those that wait for a launch each take a thread.
        once = remote.options(num_cpus=0, num_gpus=gpus, max_restarts=0, max_task_retries=0, max_concurrency=256)
        encoder = _Encoder(once.remote(device, share=0.8 * (gpus or 1.0)))
        _apart(encoder.actor.start.remote(), lambda done: self._encoder_started(encoder, done))
        return encoder

    def _encoder_started(self, encoder: _Encoder, done: Future[Any]) -> None:
        error = done.exception()
        said = error or done.result()
        if isinstance(said, GpuFacts):
            with self._change:
                encoder.facts = said
            log.info("textures are encoded on a GPU", card=said.name, proven_blocks=said.proven_blocks)
            _apart(encoder.actor.stay.remote(), lambda _gone: self._drop_encoder(encoder, 60.0))
            return
        if self._drop_encoder(encoder, math.inf if isinstance(said, CloudBakerError) else 60.0):
            detail = said.detail if isinstance(said, CloudBakerError) else str(said)
            log.warning("textures are encoded on the CPU, though there is a GPU in the cluster", said=detail)

    def _drop_encoder(self, encoder: _Encoder, pause: float) -> bool:
        """Let it go, and start none for `pause` seconds. False if that was done already."""
        import ray

        with self._change:
            if self._encoder is not encoder:
                return False
            self._encoder = None
            self._no_encoder_until = time.monotonic() + pause
            if ray.is_initialized():
                ray.kill(encoder.actor, no_restart=True)
            return not self._closed

    def give(self, hand: Hand) -> None:
        """Back to the idle ones."""
        with self._change:
            if self._closed or hand not in self._hands:
                return
            hand.owner, hand.idle_since = None, time.monotonic()
            self._idle.append(hand)
            self._change.notify()
            if self._reaper is None:
                self._arm(self.options.idle_seconds)

    def drop(self, hand: Hand) -> None:
        """Kill a worker with all it is doing; the next `take` starts another."""
        with self._change:
            self._forget(hand)
            self._sized_at = float("-inf")  # the worker may have died with its node
            self._change.notify()

    def drop_all_of(self, owner: object) -> None:
        """Kill what `owner` still has in its hands."""
        with self._change:
            for hand in [hand for hand in self._hands if hand.owner is owner]:
                self._forget(hand)
            self._change.notify_all()

    def full(self, hand: Hand) -> bool:
        """A worker found no room in the cluster: drop it, and start no more for a while.

        True if there is something else to go on with: other workers of this driver, or the CPU instead of a GPU.
        """
        with self._change:
            self._forget(hand)
            now = time.monotonic()
            self._full_until = now + self.options.start_seconds
            others = any(other.kind.device == hand.kind.device for other in self._hands)
            if hand.kind.device == GPU and not others:
                log.warning("no room on the cluster's GPUs: work tagged for a GPU runs on the CPU for a while")
                self._sizes = {**self._sizes, GPU: 0}
                self._sized_at = now + self.options.start_seconds
                others = True
            self._change.notify_all()
            return others

    def count(self) -> int:
        """Workers there are now, busy, idle or starting."""
        with self._change:
            return len(self._hands)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def close(self) -> None:
        """Kill all workers. Whoever waits for one, or for its result, gets an error at once."""
        with self._change:
            self._closed = True
            if self._reaper is not None:
                self._reaper.cancel()
            for hand in list(self._hands):
                self._forget(hand)
            if self._encoder is not None:
                self._drop_encoder(self._encoder, math.inf)
            self._change.notify_all()

    def _forget(self, hand: Hand) -> None:
        import ray

        if hand in self._idle:
            self._idle.remove(hand)
        if hand in self._hands:
            self._hands.remove(hand)
            if ray.is_initialized():
                ray.kill(hand.actor, no_restart=True)  # a soft ray.cancel first would make the later kill fail

    def _arm(self, seconds: float) -> None:
        self._reaper = threading.Timer(seconds, self._reap)
        self._reaper.daemon = True
        self._reaper.start()

    def _reap(self) -> None:
        with self._change:
            self._reaper = None
            if self._closed:
                return
            oldest = time.monotonic() - self.options.idle_seconds
            for hand in [hand for hand in self._idle if hand.idle_since <= oldest]:
                self._forget(hand)
            if self._encoder is not None and self._encoder.used <= oldest:
                self._drop_encoder(self._encoder, 0.0)
            idle = [hand.idle_since for hand in self._idle] + ([self._encoder.used] if self._encoder else [])
            if idle:
                self._arm(max(1.0, min(idle) - oldest))

    def _measure(self) -> dict[str, int]:
        ask = self.options
        nodes = _nodes()
        room = sum(min(node.get("CPU", 0.0) / ask.cpus, node.get("memory", 0.0) / ask.memory_bytes) for node in nodes)
        gpus = sum(node.get("GPU", 0.0) // ask.gpus for node in nodes)
        self._memory = int(sum(node.get("memory", 0.0) for node in nodes) / 2)
        return {CPU: max(1, int(room / 2)), GPU: max(1, int(gpus / 2)) if gpus else 0}

    def _largest_memory(self) -> int:
        return int(max((node.get("memory", 0.0) for node in _nodes()), default=0.0)) or self.options.memory_bytes


def _apart(reference: Any, then: Callable[[Future[Any]], Any]) -> None:
    """Call `then` with a result once it is there, in a thread of its own: the one that Ray would call it in answers
    `ray.kill` too, and would wait for itself."""
    reference.future().add_done_callback(lambda done: threading.Thread(target=then, args=(done,), daemon=True).start())


def _nodes() -> list[dict[str, float]]:
    """The resources of each living node."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Call:
    """Something for a worker to do."""

    key: Any
    gpu: bool
    trusted: bool
    outer: str
    wall_seconds: float
    """After this the driver kills the worker: the backstop behind the sandbox's own clock."""
    submit: Callable[[Hand], Any]
    """Calls the actor and returns the reference of the result."""
    memory_bytes: int = 0
    """What it will take, as far as is known."""


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a call: a reply, or a fault (``lost``, ``timeout``) with words about it."""

    call: Call
    reply: Any
    fault: str
    detail: str
    seconds: float
    worker: str
    device: str
    isolation: str


@dataclass(slots=True)
class _Flight:
    call: Call
    hand: Hand
    since: float
    deadline: float
    running: bool
    """False while its worker starts."""


@dataclass(slots=True, eq=False)
class _Loop:
    """State of one `drive`."""

    crew: Crew
    calls: Callable[[], Call | None]
    window: int
    waiting: deque[Call] = field(default_factory=deque)
    flights: dict[Future[Any], _Flight] = field(default_factory=dict)
    landed: SimpleQueue[Future[Any]] = field(default_factory=SimpleQueue)
    """Waited on rather than `ray.wait`: an exception raised by a signal handler in there comes out as a SystemError,
    and Prefect would not recognise its own cancellation."""
    failed_starts: int = 0

    def fill(self) -> None:
        """Put calls in flight while there is room in the window and a worker to be had.

        One that wants more memory than is free now lets others pass, so that a huge scan holds nobody up; it is asked
        for again whenever a worker is done, before all others.
        """
        passed: list[Call] = []
        while len(self.flights) < self.window and len(passed) < LOOK_AHEAD:
            call = self.waiting.popleft() if self.waiting else self.calls()
            if call is None:
                break
            kind = self.crew.kind(call)
            hand = self.crew.take(kind, self, wait=False)
            if hand is not None:
                self.begin(call, hand)
                continue
            passed.append(call)
            if kind.memory_bytes <= self.crew.options.memory_bytes:
                break  # who comes after it wants no less
        self.waiting.extendleft(reversed(passed))
        if self.waiting and not self.flights:
            call = self.waiting.popleft()
            hand = self.crew.take(self.crew.kind(call), self, wait=True)
            assert hand is not None
            self.begin(call, hand)

    def begin(self, call: Call, hand: Hand) -> None:
        """Let a worker do it, once it has started."""
        if hand.facts is None:
            self.launch(call, hand, hand.started, self.crew.options.start_seconds, running=False)
        else:
            self.send(call, hand)

    def send(self, call: Call, hand: Hand) -> None:
        """Let a worker that has started do it."""
        self.launch(call, hand, call.submit(hand), call.wall_seconds, running=True)

    def launch(self, call: Call, hand: Hand, reference: Any, seconds: float, *, running: bool) -> None:
        future: Future[Any] = reference.future()
        now = time.monotonic()
        self.flights[future] = _Flight(call, hand, now, now + seconds, running)
        future.add_done_callback(self.landed.put)

    def next_landed(self) -> Future[Any] | None:
        """Wait for something to end, until the nearest deadline at most."""
        nearest = min(flight.deadline for flight in self.flights.values()) - time.monotonic()
        with suppress(Empty):
            return self.landed.get(timeout=min(POLL_SECONDS, max(0.0, nearest)))
        return None

    def late(self) -> list[Future[Any]]:
        """What is past its deadline."""
        now = time.monotonic()
        return [future for future, flight in self.flights.items() if flight.deadline <= now and not future.done()]

    def land(self, future: Future[Any]) -> Done | None:
        """A worker has started, or an answer is there."""
        flight = self.flights.pop(future)
        try:
            reply = future.result(timeout=0)
        except Exception as error:  # whatever Ray says, the worker or its answer is lost: dead, unreachable, unreadable
            if flight.running:
                return self.fault(flight, "lost", f"{type(error).__name__}: {error}")
            self.crew.drop(flight.hand)
            self.failed_starts += 1
            if self.failed_starts >= 3:
                raise ComputeUnavailable(
                    "Ray workers die while they start: see the logs of the Ray session, and check that every node has "
                    "the same cloudbaker and Python as the driver",
                    detail=str(error),
                ) from error
            self.waiting.appendleft(flight.call)
            return None
        if isinstance(reply, CloudBakerError):
            # Not what the content did: the machine can't isolate, a job that is none, an input that can't be read.
            if flight.running:
                self.crew.give(flight.hand)
            raise reply
        if not flight.running:
            self.failed_starts = 0
            flight.hand.facts = reply
            self.send(flight.call, flight.hand)
            return None
        self.crew.give(flight.hand)
        return self.done(flight, reply, "", "")

    def expire(self, future: Future[Any]) -> Done | None:
        """Its time is up: kill the worker."""
        flight = self.flights.pop(future)
        if flight.running:
            return self.fault(flight, "timeout", f"killed by the driver after {flight.call.wall_seconds:.0f} s")
        if not self.crew.full(flight.hand):
            raise ComputeUnavailable(
                f"the Ray cluster had no room for a worker within {self.crew.options.start_seconds:.0f} s: "
                "wait for other runs to end, or add CPU and memory to the cluster",
                device=flight.hand.kind.device,
            )
        self.waiting.appendleft(flight.call)
        return None

    def fault(self, flight: _Flight, fault: str, detail: str) -> Done:
        if self.crew.closed:  # we killed it ourselves: no attempt of the item
            raise Cancelled("the connection to Ray was closed while work was under way")
        self.crew.drop(flight.hand)
        return self.done(flight, None, fault, detail)

    def done(self, flight: _Flight, reply: Any, fault: str, detail: str) -> Done:
        facts = flight.hand.facts
        return Done(
            flight.call,
            reply,
            fault,
            detail,
            time.monotonic() - flight.since,
            f"{flight.hand.name}:{facts.pid if facts else '?'}",
            flight.hand.kind.device,
            facts.isolation if facts else "",
        )


def drive(crew: Crew, calls: Callable[[], Call | None], window: int) -> Iterator[Done]:
    """Keep up to `window` calls in flight, one per worker, and yield each as it ends, exactly once.

    `calls` is asked for the next call when there is room; None means none now, and with nothing in flight the end. An
    exception on the way (Ctrl-C, a signal handler, a closed generator) kills the workers in flight: they hold sandboxed
    jobs, and nobody is left to read what they say.
    """
    loop = _Loop(crew, calls, max(1, window))
    try:
        while True:
            loop.fill()
            if not loop.flights:
                if loop.waiting:
                    continue
                return
            landed = loop.next_landed()
            if landed in loop.flights and (done := loop.land(landed)):
                yield done
            for future in loop.late():
                if done := loop.expire(future):
                    yield done
    except CloudBakerError:
        raise
    except Exception as error:
        if crew.closed:  # Ray was shut down under us
            raise Cancelled("the connection to Ray was closed while work was under way") from error
        raise
    finally:
        crew.drop_all_of(loop)
