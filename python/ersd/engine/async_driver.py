"""One thread that makes the steps of asyncio's generations and sends them to their event loops."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import threading
import weakref
from typing import TYPE_CHECKING, NamedTuple

from ersd.engine.shared_core import SharedCore

if TYPE_CHECKING:
    from ersd import _core

__all__ = ["AsyncDriver", "Delivery"]

LINGER_SECONDS = 5.0  # how long the thread waits for another request before it ends
STOP_SECONDS = 10.0  # how long the end of the process waits for the thread's last step


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
    """

    def __init__(self, request: _core.Request, *, at_once: bool) -> None:
        """at_once: whether steps are sent as they come, or all of them at the end."""
        self.request = request
        self._at_once = at_once
        self._steps: list[_core.GenerationStep] = []  # taken, but not sent
        self._loop = asyncio.get_running_loop()
        self._parcels: asyncio.Queue[Parcel] = asyncio.Queue()

    async def receive(self) -> Parcel:
        """Waits for the next parcel. After the last one, empty last parcels come."""
        parcel = await self._parcels.get()
        if parcel.is_last:
            self._parcels.put_nowait(Parcel([], True))  # for other tasks that wait
        return parcel

    def forward(self, core: SharedCore) -> bool:
        """Sends what the request has ready. The thread calls this; True says that it has ended."""
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
        if is_last or (self._at_once and self._steps):
            self.send(is_last, error)
        return is_last

    def send(self, is_last: bool, error: BaseException | None) -> None:
        """Sends the steps that were taken. Nobody gets them if the event loop is closed."""
        parcel = Parcel(self._steps, is_last, error)
        self._steps = []
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._parcels.put_nowait, parcel)


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
        self._is_stopped = False
        weakref.finalize(owner, self._retire)
        _DRIVERS.add(self)

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

    def stop(self) -> None:
        """Cancels all requests and waits until the thread has ended."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify()
            thread, deliveries = self._thread, list(self._deliveries)
        for delivery in deliveries:
            self._core.cancel(delivery.request)
        if thread is not None:
            thread.join(STOP_SECONDS)

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
        for delivery in list(self._deliveries):
            if delivery.forward(self._core):
                with self._changed:
                    self._deliveries.remove(delivery)

    def _has_requests(self) -> bool:
        """Waits for a request, and returns False if none came, so that the thread ends."""

        def is_ready() -> bool:
            return bool(self._deliveries) or self._is_stopped or self._linger == 0

        with self._changed:
            if not is_ready():
                self._changed.wait_for(is_ready, self._linger)
            if self._deliveries and not self._is_stopped:
                return True
            self._thread = None
            return False

    def _fail(self, error: BaseException) -> None:
        """Ends all requests by an error."""
        with self._changed:
            failed, self._deliveries = self._deliveries, []
        for delivery in failed:
            self._core.cancel(delivery.request)
            delivery.send(True, error)


_DRIVERS: weakref.WeakSet[AsyncDriver] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """Ends all threads before the interpreter does, because a thread in a step would crash then."""
    for driver in list(_DRIVERS):
        driver.stop()
