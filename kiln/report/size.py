"""Sizes as people read them."""


def human(size: int) -> str:
    """``512 B``, ``1.9 MB``: a size in bytes, in powers of 1000."""
    value, units = float(size), ["B", "kB", "MB", "GB", "TB"]
    while abs(value) >= 999.95 and len(units) > 1:
        value /= 1000
        del units[0]
    return f"{size} B" if units[0] == "B" else f"{value:.1f} {units[0]}"
