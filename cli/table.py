"""Plain tables: aligned columns, no frames, the same on a terminal and in a pipe."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> list[str]:
    """Lines of `rows` with columns aligned, those in `right` to the right; rows may be short.

    >>> aligned([["a", "10"], ["bcd", "2"]], right=(1,))
    ['a    10', 'bcd   2']
    """
    if not rows:
        return []
    # A short row's last cell is a remark, which must not widen its column.
    widths = [
        max((len(r[i]) for r in rows if len(r) == len(rows[0])), default=0)
        for i in range(len(rows[0]))
    ]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(widths[i]) if i in right else cell.ljust(widths[i])
            for i, cell in enumerate(row)
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
