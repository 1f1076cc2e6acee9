"""One thread that makes the steps of asyncio's generations and sends them to their event loops."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from typing import TYPE_CHECKING, NamedTuple

from ersd.engine.shared_core import SharedCore

if TYPE_CHECKING:
    from ersd import _core

__all__ = ["AsyncDriver", "Delivery"]

LINGER_SECONDS = 5.0  # how long the thread waits for another request before it ends


class Parcel(NamedTuple):
    """What the thread sends to an event loop at once.

    Attributes:
        steps: steps of a request, in order.
        is_last: whether the request has ended.
        error: the error by which it ended, if any.
    """

    steps: list[_core.GenerationStep]
    is_last: bool
    error: BaseException | None = None


class Delivery:
    """A request whose steps go to the event loop in which it was made.

    Attributes:
        request: the request.
        loop: the event loop.
    """

    def __init__(self, request: _core.Request, *, at_once: bool) -> None:
        """at_once: whether steps are sent as they come, or all of them at the end."""
        self.request = request
        self.loop = asyncio.get_running_loop()
        self._at_once = at_once
        self._steps: list[_core.GenerationStep] = []  # taken, but not sent
        self._parcels: asyncio.Queue[Parcel] = asyncio.Queue()

    async def receive(self) -> Parcel:
        """Waits for the next parcel. After the last one, empty last parcels come."""
        parcel = await self._parcels.get()
        if parcel.is_last:
            self._parcels.put_nowait(Parcel([], True))  # for other tasks that wait
        return parcel

    def collect(self, core: SharedCore) -> Parcel | None:
        """Returns what the request has ready and is to be sent now. The thread calls this."""
        is_last = False
        error: BaseException | None = None
        try:
            while (step := self.request.take()) is not None:
                self._steps.append(step)
            is_last = self.request.done
            if is_last:
                core.next(self.request)  # raises the error by which the request ended
        except BaseException as found:
            is_last, error = True, found
        if not is_last and not (self._at_once and self._steps):
            return None
        return self.pack(is_last=is_last, error=error)

    def pack(self, *, is_last: bool, error: BaseException | None) -> Parcel:
        """Returns the steps that were taken as a parcel."""
        steps, self._steps = self._steps, []
        return Parcel(steps, is_last, error)

    def put(self, parcel: Parcel) -> None:
        """Wakes the task that waits for a parcel. The event loop calls this."""
        self._parcels.put_nowait(parcel)


class AsyncDriver:
    """Makes steps in a thread of its own while asyncio's requests are under way.

    The thread begins with the first request and ends some seconds after the last one.
    """

    def __init__(self, core: SharedCore, owner: object) -> None:
        """owner: when it is gone, the thread ends with the last request."""
        self._core = core
        self._changed = threading.Condition()
        self._deliveries: list[Delivery] = []
        self._thread: threading.Thread | None = None
        self._linger = LINGER_SECONDS
        weakref.finalize(owner, self._retire)

    def submit(
        self, prompt: list[int], options: _core.GenerationOptions, *, at_once: bool
    ) -> Delivery:
        """Submits a request for the running event loop. See `Delivery` and `SharedCore.submit`."""
        delivery = Delivery(self._core.submit(prompt, options), at_once=at_once)
        with self._changed:
            self._deliveries.append(delivery)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ersd", daemon=True)
                self._thread.start()
            self._changed.notify()
        return delivery

    def cancel(self, request: _core.Request) -> None:
        """Ends a request; the thread then finds that it is done. It waits for nothing."""
        self._core.cancel(request)

    def _retire(self) -> None:
        with self._changed:
            self._linger = 0
            self._changed.notify()

    def _run(self) -> None:
        while self._has_requests():
            try:
                self._core.step_all()
            except BaseException as error:  # of a model: no request can go on
                self._fail(error)
            self._forward()

    def _forward(self) -> None:
        """Sends what all requests have ready, and forgets those that have ended."""
        ready: list[tuple[Delivery, Parcel]] = []
        for delivery in list(self._deliveries):
            parcel = delivery.collect(self._core)
            if parcel is None:
                continue
            ready.append((delivery, parcel))
            if parcel.is_last:
                with self._changed:
                    self._deliveries.remove(delivery)
        _send(ready)

    def _has_requests(self) -> bool:
        """Waits for a request, and returns False if none came, so that the thread ends."""

        def is_ready() -> bool:
            return bool(self._deliveries) or self._linger == 0

        with self._changed:
            if not is_ready():
                self._changed.wait_for(is_ready, self._linger)
            if self._deliveries:
                return True
            self._thread = None
            return False

    def _fail(self, error: BaseException) -> None:
        """Ends all requests by an error."""
        with self._changed:
            failed, self._deliveries = self._deliveries, []
        for delivery in failed:
            self._core.cancel(delivery.request)
        _send([(delivery, delivery.pack(is_last=True, error=error)) for delivery in failed])


def _send(ready: list[tuple[Delivery, Parcel]]) -> None:
    """Sends parcels to their event loops, each of which is woken once.

    A loop that wakes takes Python's lock from the thread, which must not lose time between steps.
    Nobody gets the parcels of a loop that is closed.
    """
    of_loop: dict[asyncio.AbstractEventLoop, list[tuple[Delivery, Parcel]]] = {}
    for each in ready:
        of_loop.setdefault(each[0].loop, []).append(each)
    for loop, parcels in of_loop.items():
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_put_all, parcels)


def _put_all(parcels: list[tuple[Delivery, Parcel]]) -> None:
    for delivery, parcel in parcels:
        delivery.put(parcel)
