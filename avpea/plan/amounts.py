"""Seconds and bytes as people read them."""

from avpea.tables import clock

__all__ = ["in_bytes", "in_hours", "in_time"]


def in_time(seconds: float) -> str:
    """A time, to two or three digits: `12 ms`, `3.4 s`, `02:10`, `5:01:00`, `14 days`."""
    if seconds < 0.0995:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 9.95 else f"{seconds:.0f} s"
    return clock(seconds) if seconds < 1e6 else f"{seconds / 86400:,.0f} days"


def in_hours(seconds: float) -> str:
    """A time in hours, and from a hundred thousand hours on in years."""
    hours = seconds / 3600
    if hours >= 1e5:
        return f"{hours / 24 / 365:,.0f} years"
    return f"{hours:,.0f} h" if hours >= 99.5 else f"{hours:.2g} h"


def in_bytes(count: float) -> str:
    """An amount to three digits: `2.01 MB`."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} PB"
