"""Ticket types of an event."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field, StrictInt

from seatsvc.api.deps import Name, OwnerDep, Patch, PathId, StateDep, unset
from seatsvc.api.problems import answers
from seatsvc.errors import (
    Invalid,
    InvalidToken,
    NameTaken,
    NotAuthenticated,
    NotFound,
    PayloadTooLarge,
    TicketTypeInUse,
    Unavailable,
)
from seatsvc.ticket_types import TicketType

router = APIRouter()

PLACES_MAX = 1_000_000

Price = Annotated[StrictInt, Field(ge=0, le=1_000_000_000, description="In minor units: cents.")]
Currency = Annotated[str, Field(pattern="^[A-Z]{3}$", description="ISO 4217.")]
Quantity = Annotated[
    StrictInt,
    Field(ge=0, le=PLACES_MAX, description="How many may be sold; null: no limit."),
]


class TicketTypeBody(BaseModel, extra="forbid"):
    """A price at which places are sold."""

    name: Name = Field(examples=["Standard"])
    price: Price = Field(examples=[4500])
    currency: Currency = Field(examples=["EUR"])
    quantity: Quantity | None = Field(default=None, examples=[200])


class TicketTypePatch(Patch):
    """The currency stays: another currency is another ticket type."""

    name: Name = unset(examples=["Early bird"])
    price: Price = unset(examples=[3900])
    quantity: Quantity | None = Field(default=None, examples=[250])


class TicketTypeList(BaseModel):
    """All ticket types of an event."""

    items: list[TicketType]


@router.get("/events/{event_id}/ticket-types", responses=answers(NotFound, Invalid, Unavailable))
async def list_ticket_types(event_id: PathId, parts: StateDep) -> TicketTypeList:
    """At which prices an event is sold."""
    return TicketTypeList(items=await parts["ticket_types"].list_ticket_types(event_id))


@router.post(
    "/events/{event_id}/ticket-types",
    status_code=201,
    responses=answers(
        NotAuthenticated, InvalidToken, NotFound, NameTaken, Invalid, PayloadTooLarge, Unavailable
    ),
)
async def create_ticket_type(
    event_id: PathId, body: TicketTypeBody, owner: OwnerDep, parts: StateDep
) -> TicketType:
    """Add a ticket type. It can be chosen for places whose section has none of its own."""
    return await parts["ticket_types"].add(event_id, owner, **body.model_dump())


@router.patch(
    "/ticket-types/{ticket_type_id}",
    responses=answers(
        NotAuthenticated, InvalidToken, NotFound, TicketTypeInUse, NameTaken, Invalid,
        PayloadTooLarge, Unavailable,
    ),
)  # fmt: skip
async def update_ticket_type(
    ticket_type_id: PathId, body: TicketTypePatch, owner: OwnerDep, parts: StateDep
) -> TicketType:
    """Change a ticket type. What is booked or held keeps its price."""
    changes = body.model_dump(exclude_unset=True)
    return await parts["ticket_types"].change(ticket_type_id, owner, changes)


@router.delete(
    "/ticket-types/{ticket_type_id}",
    status_code=204,
    responses=answers(
        NotAuthenticated, InvalidToken, NotFound, TicketTypeInUse, Invalid, Unavailable
    ),
)
async def delete_ticket_type(ticket_type_id: PathId, owner: OwnerDep, parts: StateDep) -> None:
    """Delete a ticket type that no section, booking or hold refers to."""
    await parts["ticket_types"].delete(ticket_type_id, owner)
