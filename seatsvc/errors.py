"""Everything that can go wrong for a client: one tree of code, status and title.

The docstring of each class is its default `detail`. Clients branch on `code`, which is stable.
"""

from typing import Any, ClassVar


class ServiceError(Exception):
    """The service failed. The cause is in its log under this request's id."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500

    def __init__(
        self, detail: str | None = None, *, retry_after_s: int | None = None, **extras: Any
    ) -> None:
        self.detail = detail or type(self).__doc__ or self.code
        self.retry_after_s = retry_after_s
        self.extras = {name: value for name, value in extras.items() if value is not None}
        super().__init__(self.detail)

    @property
    def title(self) -> str:
        """The code in words."""
        return self.code.replace("_", " ").capitalize()


class Invalid(ServiceError):
    """The request is not valid; `errors` says where."""

    code = "invalid_request"
    status = 422


class MalformedBody(Invalid):
    """The body could not be read as JSON."""

    code = "malformed_body"


class BadCursor(Invalid):
    """cursor: use the `next_cursor` of an earlier answer as it is."""


class MixedEvents(Invalid):
    """The seats belong to different events. Book each event's seats on their own."""

    code = "mixed_events"


class TicketTypeNotAllowed(Invalid):
    """This ticket type is not sold for these seats."""

    code = "ticket_type_not_allowed"


class IdempotencyKeyReused(Invalid):
    """This Idempotency-Key was used for another request. Use a new key for a new request."""

    code = "idempotency_key_reused"


class NotAuthenticated(ServiceError):
    """Log in first: send `Authorization: Bearer <access_token>`."""

    code = "not_authenticated"
    status = 401


class InvalidToken(NotAuthenticated):
    """The token is not valid, or no longer. Log in again."""

    code = "invalid_token"


class InvalidCredentials(NotAuthenticated):
    """The username or the password is wrong."""

    code = "invalid_credentials"


class Forbidden(ServiceError):
    """Your role does not allow this."""

    code = "forbidden"
    status = 403


class NotFound(ServiceError):
    """There is no such thing here, or it is not yours."""

    code = "not_found"
    status = 404


class MethodNotAllowed(ServiceError):
    """This path does not take this method; `Allow` names those it takes."""

    code = "method_not_allowed"
    status = 405


class PayloadTooLarge(ServiceError):
    """The body is larger than 64 KiB."""

    code = "payload_too_large"
    status = 413


class HeadersTooLarge(ServiceError):
    """The request line and the headers are larger than 32 KiB, or more than 100 fields."""

    code = "headers_too_large"
    status = 431


class MalformedRequest(ServiceError):
    """This is not valid HTTP."""

    code = "malformed_request"
    status = 400


class RequestTimeout(ServiceError):
    """The request did not arrive in time."""

    code = "request_timeout"
    status = 408


class RateLimited(ServiceError):
    """Too many requests of this kind. Wait as long as `Retry-After` says, in seconds."""

    code = "rate_limited"
    status = 429


class Conflict(ServiceError):
    """The request conflicts with the current state."""

    code = "conflict"
    status = 409


class UsernameTaken(Conflict):
    """This username is taken."""

    code = "username_taken"


class EmailTaken(Conflict):
    """This e-mail address belongs to another account."""

    code = "email_taken"


class NameTaken(Conflict):
    """This event has a ticket type of this name already."""

    code = "name_taken"


class NoEmail(Conflict):
    """This account has no e-mail address. Add one first: `PATCH /me`."""

    code = "no_email"


class LastAdmin(Conflict):
    """This is the last active admin. Make someone else an admin first."""

    code = "last_admin"


class IdempotencyInFlight(Conflict):
    """A request with this Idempotency-Key is still running. Repeat it in a moment."""

    code = "idempotency_in_flight"


class AlreadyCancelled(Conflict):
    """This booking is cancelled already."""

    code = "already_cancelled"


class Busy(Conflict):
    """Someone is at this very seat right now. Try again in a moment."""

    code = "busy"


class SeatTaken(Conflict):
    """At least one of the seats is booked. Choose others."""

    code = "seat_taken"


class SeatHeld(Conflict):
    """At least one of the seats is held by someone else. It may come free again."""

    code = "seat_held"


class SeatBlocked(Conflict):
    """At least one of the seats is not on sale."""

    code = "seat_blocked"


class SoldOut(Conflict):
    """There are not enough free places of this kind."""

    code = "sold_out"


class TicketTypeSoldOut(Conflict):
    """There are not enough tickets of this type left."""

    code = "ticket_type_sold_out"


class HoldExpired(Conflict):
    """This hold has expired, or was booked or released already. Choose seats anew."""

    code = "hold_expired"


class HoldLimit(Conflict):
    """This hold cannot run any longer than it does."""

    code = "hold_limit"


class UserLimitReached(Conflict):
    """You would have more seats of this event than one person may have."""

    code = "user_limit_reached"


class DailyLimitReached(Conflict):
    """You have made as many bookings for this event today (UTC) as one person may make."""

    code = "daily_limit_reached"


class SalesClosed(Conflict):
    """This event is not on sale now."""

    code = "sales_closed"


class EventCancelled(Conflict):
    """This event is cancelled."""

    code = "event_cancelled"


class EventHasBookings(Conflict):
    """This event has bookings, or had some. Cancel it instead."""

    code = "event_has_bookings"


class TicketTypeInUse(Conflict):
    """This ticket type is held or booked, or belongs to a section."""

    code = "ticket_type_in_use"


class VersionMismatch(ServiceError):
    """This is not the current version any more: read it again, then repeat the change."""

    code = "version_mismatch"
    status = 412


class Unavailable(ServiceError):
    """The service cannot do this right now. Nothing is lost: try again in a moment."""

    code = "unavailable"
    status = 503

    def __init__(self, detail: str | None = None, *, retry_after_s: int = 1, **extras: Any) -> None:
        super().__init__(detail, retry_after_s=retry_after_s, **extras)


def _tree(error: type[ServiceError]) -> list[type[ServiceError]]:
    return [error, *(below for child in error.__subclasses__() for below in _tree(child))]


BY_CODE = {error.code: error for error in reversed(_tree(ServiceError))}
