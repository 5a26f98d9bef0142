"""Processes that do the trials of a search beside each other.

The one who leads is told what happens through a pipe to each. A process that dies is heard of by the end of
its pipe, and the processes end by themselves when the one who leads is killed.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import warnings
from contextlib import closing, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Self

import torch

from twil.core.errors import DataWarning, ModelWarning
from twil.search.executor import LAST, Answer, Assignment, Ended, Lost, Message, work
from twil.train.loop import StepDone

PATIENCE = 0.2  # seconds between looks at whether the user wants to stop, and between steps that are told of


@dataclass
class _WorkerHandle:
    """A process, the line to it, its place among the others, and the trial that it does."""

    line: Connection
    process: multiprocessing.process.BaseProcess
    place: int
    trial: int | None = None


class Processes:
    """Processes, each with its share of the threads and, as far as there are some, a CUDA device of its own.

    Args:
        jobs: How many.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self._context = multiprocessing.get_context("spawn")
        self._hands: list[_WorkerHandle] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hand in self._hands:
            hand.process.kill()  # what it was to keep, it has kept
        for hand in self._hands:
            hand.process.join()
            hand.line.close()

    @property
    def free(self) -> bool:
        """Whether a process has nothing to do, or there may be another one."""
        return len(self._hands) < self.jobs or any(hand.trial is None for hand in self._hands)

    def start(self, assignment: Assignment) -> None:
        """Give a trial to a process."""
        hand = next((hand for hand in self._hands if hand.trial is None), None) or self._hire()
        hand.trial = assignment.trial
        with suppress(BrokenPipeError):  # its death is heard of next
            hand.line.send(assignment)

    def messages(self) -> list[tuple[int, Message]]:
        """Wait a moment for what the processes tell."""
        busy = {hand.line: hand for hand in self._hands if hand.trial is not None}
        heard: list[tuple[int, Message]] = []
        for line in wait(list(busy), timeout=PATIENCE):
            hand = busy[line]  # type: ignore[index]  # these are its lines
            assert hand.trial is not None
            message = self._hear(hand)
            heard.append((hand.trial, message))
            if isinstance(message, LAST):
                hand.trial = None
        return heard

    def answer(self, trial: int, answer: Answer) -> None:
        """Tell a process whether its trial goes on."""
        hand = next(hand for hand in self._hands if hand.trial == trial)
        with suppress(BrokenPipeError):  # its death is heard of next
            hand.line.send(answer)

    def stop(self) -> None:
        """Have all processes keep the state of their trials."""
        for hand in self._hands:
            if hand.trial is not None:
                self.answer(hand.trial, "stop")

    def _hire(self) -> _WorkerHandle:
        line, far = self._context.Pipe()
        threads = max(1, torch.get_num_threads() // self.jobs)
        place = min(set(range(self.jobs)) - {hand.place for hand in self._hands})
        process = self._context.Process(target=_serve, args=(far, place, threads), daemon=True)
        # Ctrl-C reaches all processes of a terminal, and the others do what this one says: they inherit its
        # mask. Python's own helper comes first, since starting it lifts the mask.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        far.close()  # so that the process's death is heard of
        self._hands.append(_WorkerHandle(line, process, place))
        return self._hands[-1]

    def _hear(self, hand: _WorkerHandle) -> Message:
        try:
            message: Message = hand.line.recv()
        except (EOFError, ConnectionResetError):
            hand.process.join()
            code = hand.process.exitcode or 0
            self._hands.remove(hand)
            return Lost(f"signal {-code}" if code < 0 else f"exit code {code}")
        return message


def _serve(line: Connection, place: int, threads: int) -> None:
    """Be a process that does trials until its line is closed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for kind in (ModelWarning, DataWarning):
        warnings.simplefilter("ignore", kind)  # who leads has tried every model first, and warned of it
    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        torch.cuda.set_device(place % torch.cuda.device_count())
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            assignment = line.recv()
            if isinstance(
                assignment, Assignment
            ):  # not a request to stop that has crossed the end of a trial
                _attend(line, assignment)


def _attend(line: Connection, assignment: Assignment) -> None:
    asked = False

    def should_stop() -> bool:
        nonlocal asked
        while not asked and line.poll():
            asked = line.recv() == "stop"
        return asked

    told = 0.0
    with closing(work(assignment, should_stop)) as messages:
        for message in messages:
            if isinstance(message, StepDone):
                if time.monotonic() - told > PATIENCE:
                    told = time.monotonic()
                    line.send(message)
                continue
            line.send(message)
            if isinstance(message, LAST):
                return
            while (answer := line.recv()) == "stop":
                asked = True
            if answer == "end":
                break
    line.send(Ended())


def _end_with_parent() -> None:
    """End this process when the one who leads is killed; what it writes appears whole or not at all."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
