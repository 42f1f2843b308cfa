"""Rows of the summary: a part prints them as it goes, `run` collects them, so that a part that is stopped keeps what it has shown."""

import json

MARK = "@row "


def row(what, bound, value, ok):
    """ok: True or False against the bound, None for a figure without one."""
    print(MARK + json.dumps([what, bound, value, None if ok is None else bool(ok)]), flush=True)


def parse(line):
    return json.loads(line[len(MARK) :]) if line.startswith(MARK) else None


def show(rows):
    """The table as text, and how many rows failed."""
    verdict = {True: "ok", False: "FAILED", None: "-"}
    cells = [("figure", "bound", "value", "verdict")] + [(a, b, str(v)[:120], verdict[ok]) for a, b, v, ok in rows]
    wide = [max(len(str(c[i])) for c in cells) for i in range(3)]
    lines = ["  ".join(str(c[i]).ljust(wide[i]) for i in range(3)) + "  " + c[3] for c in cells]
    lines.insert(1, "-" * max(map(len, lines)))
    failed = sum(r[3] is False for r in rows)
    return "\n".join(lines + [f"{len(rows)} rows, {failed} failed"]), failed
