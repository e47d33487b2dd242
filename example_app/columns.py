"""Column types for values that SQLite cannot store exactly."""

from datetime import UTC, datetime
from decimal import Decimal

from sqlalchemy import DateTime, Dialect, Integer
from sqlalchemy.types import TypeDecorator


class Money(TypeDecorator[Decimal]):
    """Store a decimal amount as whole cents."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> int | None:
        """Turn an amount into cents; refuse fractions of a cent with ``ValueError``."""
        if value is None:
            return None
        cents = int(value.scaleb(2))
        if cents != value.scaleb(2):
            raise ValueError(f"{value} is not a whole number of cents; round it before storing it.")
        return cents

    def process_result_value(self, value: int | None, dialect: Dialect) -> Decimal | None:
        """Turn cents into an amount with two places."""
        return None if value is None else Decimal(value).scaleb(-2)


class UtcDateTime(TypeDecorator[datetime]):
    """Store an aware time as UTC and give it back aware."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn an aware time into the naive UTC that SQLite can hold."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Say that the stored time is UTC."""
        return None if value is None else value.replace(tzinfo=UTC)


def now() -> datetime:
    """Return the current time, aware."""
    return datetime.now(UTC)
