"""What a measurement says: where it was made, tables for people, one line of JSON for machines."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

import torch

from ..errors import ShapeError

_PACKAGES = ("foretoken", "torch", "numpy", "transformers", "tokenizers", "safetensors")


def machine() -> dict[str, Any]:
    """The processor, its cores, the versions, the date, and how busy the machine is: as plain values.

    Example:
        >>> sorted(machine())[:3]
        ['cores', 'cpu', 'date']
    """
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cpu": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "versions": versions,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows under columns.

    Args:
        title: what the rows are.
        columns: their names; the first is of words, the others of figures.
        rows: strings, ints, floats (shown with three digits or more), or None where there is nothing to say.

    Raises:
        ShapeError: a row has another number of cells than there are columns.

    Example:
        >>> print(Table("speed", ("model", "tokens/s"), [("tales", 123.456)]))
        speed
        model  tokens/s
        tales       123
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ShapeError(f"table {self.title!r} has {len(self.columns)} columns, a row has {len(row)}")

    def __str__(self) -> str:
        cells = [list(self.columns), *([_cell(value) for value in row] for row in self.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]
        lines = [self.title]
        for row in cells:
            first = row[0].ljust(widths[0])
            lines.append("  ".join([first, *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip())
        return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclasses.dataclass(frozen=True)
class Report:
    """One measurement, made here and now.

    Args:
        name: of the measurement.
        settings: what was measured how: model, dtype, batch, prompt length, warm-up, repeats.
        tables: for people.
        results: for machines; plain values.
        made: where and when; filled in.
    """

    name: str
    settings: dict[str, Any]
    tables: list[Table]
    results: dict[str, Any]
    made: dict[str, Any] = dataclasses.field(default_factory=machine)

    def __str__(self) -> str:
        made = self.made
        versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
        where = f"{made['cpu']}, {made['cores']} cores, {made['threads']} threads, load {made['load']}"
        return "\n\n".join([f"{_stated(self.name, self.settings)}\n{where}\n{versions}", *map(str, self.tables)])

    def to_json(self) -> str:
        """One line."""
        fields = {"bench": self.name, "settings": self.settings, "results": self.results, "machine": self.made}
        return json.dumps(fields, ensure_ascii=False)

    def show(self, file: TextIO | None = None) -> None:
        """Print the tables, then the line of JSON as the last one."""
        print(self, "", self.to_json(), sep="\n", file=sys.stdout if file is None else file)

    def save(self, folder: Path) -> Path:
        """Write what `to_json` says, with the command that was run, as folder/name.json; returns the path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        fields = {"command": " ".join(["python", *sys.argv]), **json.loads(self.to_json())}
        path.write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return path


def _stated(name: str, settings: dict[str, Any]) -> str:
    """Settings as lines; those of a joined report one below the other."""
    if settings and all(isinstance(value, dict) for value in settings.values()):
        return "\n".join([name, *(_stated(f"  {part}", inner) for part, inner in settings.items() if inner)])
    return f"{name}: " + ", ".join(f"{key} {value}" for key, value in settings.items())


def joined(name: str, reports: Sequence[Report]) -> Report:
    """Several reports as one: settings and results under the name of each."""
    tables = [table for report in reports for table in report.tables]
    settings = {report.name: report.settings for report in reports}
    return Report(name, settings, tables, {report.name: report.results for report in reports})


def asked(goals: Iterable[tuple[str, float, str, float]]) -> Report:
    """What was asked beside what was measured.

    Args:
        goals: (what, measured, ">=" or "<=", asked) each.

    Example:
        >>> print(asked([("times the old way", 41.5, ">=", 40), ("errors", 1, "<=", 0)]).tables[0])
        what was asked
        measure            measured  asked  met
        times the old way      41.5  >= 40  yes
        errors                    1   <= 0   NO
    """
    rows = []
    for what, measured, sign, number in goals:
        met = measured >= number if sign == ">=" else measured <= number
        rows.append((what, measured, f"{sign} {number:g}", "yes" if met else "NO"))
    table = Table("what was asked", ("measure", "measured", "asked", "met"), rows)
    return Report("asked", {}, [table], {"measures": len(rows), "missed": [row[0] for row in rows if row[-1] == "NO"]})
