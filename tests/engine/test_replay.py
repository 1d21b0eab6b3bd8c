"""Steps one by one, and as a graph: on the CPU, and on a stand-in for CUDA that records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch

from ecgcore.engine import Replay
from ecgcore.engine.graph import WARMUP
from ecgcore.testing.__main__ import main
from ecgcore.testing.plans import check_plans


class FakeCuda:
    """What Replay uses of ``torch.cuda``: work is done at once, or kept by a graph."""

    def __init__(self) -> None:
        self.recording: list[Callable[[], None]] | None = None
        self.current: Any = None
        self.waits: list[tuple[Any, Any]] = []

    def launch(self, work: Callable[[], None]) -> None:
        if self.recording is None:
            work()
        else:
            self.recording.append(work)

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fake = self

        class Graph:
            work: list[Callable[[], None]]

            def replay(self) -> None:
                for work in self.work:
                    work()

        @contextmanager
        def graph(made: Graph, stream: Any) -> Iterator[None]:
            assert fake.recording is None
            assert stream is not fake.current
            fake.recording = []
            yield
            made.work, fake.recording = fake.recording, None

        @contextmanager
        def on(stream: Any) -> Iterator[None]:
            before, fake.current = fake.current, stream
            yield
            fake.current = before

        class Stream:
            def wait_stream(self, other: Any) -> None:
                fake.waits.append((self, other))

        self.current = Stream()
        monkeypatch.setattr(torch.cuda, "Stream", Stream)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "graph", graph)
        monkeypatch.setattr(torch.cuda, "stream", on)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: fake.current)
        monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())


def test_every_call_does_the_work_of_one_step(monkeypatch):
    cuda = FakeCuda()
    cuda.patch(monkeypatch)
    done: list[Any] = []
    calls = 0

    def step() -> None:
        nonlocal calls
        calls += 1
        cuda.launch(lambda: done.append(cuda.current))

    replay = Replay(step, torch.device("cuda", 1))
    main_stream = cuda.current
    for n in range(1, WARMUP + 6):
        replay()
        assert len(done) == n
        assert (replay.graph is not None) == (n > WARMUP)
    assert calls == WARMUP + 1  # what comes after the recording calls no Python
    side = done[0]
    assert done == [side] * WARMUP + [main_stream] * 5
    assert cuda.waits == [(side, main_stream), (main_stream, side)] * WARMUP


def test_eager_and_the_cpu_call_the_step(monkeypatch):
    cuda = FakeCuda()
    cuda.patch(monkeypatch)
    done: list[int] = []
    for device, eager in (("cuda", True), ("cpu", False)):
        replay = Replay(lambda: done.append(1), torch.device(device), eager=eager)
        for _ in range(WARMUP + 3):
            replay()
        assert replay.graph is None
    assert len(done) == 2 * (WARMUP + 3)
    assert not cuda.waits


def test_an_error_in_the_recording_is_an_error(monkeypatch):
    cuda = FakeCuda()
    cuda.patch(monkeypatch)

    def step() -> None:
        if cuda.recording is not None:
            raise RuntimeError("operation not permitted when stream is capturing")

    replay = Replay(step, torch.device("cuda"))
    for _ in range(WARMUP):
        replay()
    with pytest.raises(RuntimeError, match="capturing"):
        replay()


def test_the_self_check_of_a_device(device, capsys):
    results = list(check_plans(device))
    assert len(results) >= 16
    assert all(r.ok for r in results), [r for r in results if not r.ok]
    assert {r.dtype for r in results} == {"fp32", "bf16"}
    assert main(["--device", device, "--op", "engine"]) == 0
    assert (
        f"{len(results)} of {len(results)} figures within their limits" in capsys.readouterr().out
    )
