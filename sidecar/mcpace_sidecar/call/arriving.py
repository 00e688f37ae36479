"""A call whose session has come over to this replica: it needs a slot here, as every other."""

from __future__ import annotations

from mcpace_sidecar.call import room
from mcpace_sidecar.call.answer import Answer
from mcpace_sidecar.call.sent import Asker


class Arriving:
    """It waits for one (bulkhead.slots.Queued)."""

    def __init__(self, asker: Asker, answer: Answer) -> None:
        self._asker = asker
        self._answer = answer
        self.deadline: float = answer.call.started + answer.call.context.settings.patience
        """When a slot must have come free."""

    @property
    def ended(self) -> bool:
        """Whether it waits no more."""
        return self._answer.call.ended

    def seated(self, left: float) -> None:
        """A slot has come free."""
        answer = self._answer
        answer.waiting = None
        try:
            if answer.admission is not None:
                answer.admission.seated(self)
            self._asker.ask(left)
        except Exception as error:  # noqa: BLE001 - because whatever it is, it is this call's end alone
            answer.broke("seat", error)

    def overdue(self) -> None:
        """No slot came free in time."""
        self._answer.waiting = None
        try:
            room.overdue(self._answer)
        except Exception as error:  # noqa: BLE001 - because of the same
            self._answer.broke("overdue", error)
