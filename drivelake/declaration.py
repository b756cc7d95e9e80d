"""The declaration, ``lakehouse.yaml``, as types. Belongs here: what may be declared and how it is checked.

Never here: acting on it, defaults read from the environment, anything that touches a lake.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from types import UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from drivelake.errors import DeclarationError
from drivelake.rig import Alignment, Clock, Rig, Sensor
from drivelake.storage import Retention, Store
from drivelake.strict import Strict, nearest

__all__ = [
    "Alignment",
    "Clock",
    "Criterion",
    "Dataset",
    "Declaration",
    "Gates",
    "Ingest",
    "Model",
    "Retention",
    "Rig",
    "Search",
    "SearchRange",
    "Sensor",
    "Split",
    "Store",
    "Target",
    "Training",
    "load_declaration",
    "matches",
    "nearest",
    "parse_declaration",
]

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


class Ingest(Strict):
    """Where drives arrive and when one counts as complete."""

    inbox: str = Field(default="inbox", description="folder of drives, absolute or relative to the lake")
    marker: str | None = Field(default=None, description="a drive is complete once this file exists in it")
    quiet_s: float = Field(default=30.0, ge=0, description="without a marker: complete after this long without a change")
    copy_up_to_mb: float = Field(
        default=1024.0, ge=0, description="a log up to this size is copied into the store; a larger one is registered where it is"
    )
    keep_salvaged_share: float = Field(
        default=0.5, ge=0, le=1, description="a damaged log is used from this share of its promised messages on"
    )
    reader_memory_mb: float = Field(default=512.0, ge=256, description="private memory that reading one log may take")
    reader_seconds: float = Field(default=120.0, gt=0, description="wall clock that reading one log may take, at least")
    reader_seconds_per_gb: float = Field(default=600.0, ge=0, description="the same for each 10^9 bytes of a large log")


class Split(Strict):
    """Shares of the splits. A drive falls into one by its name alone, so it never changes sides as the lake grows."""

    seed: int = 0
    train: float = Field(default=0.6, gt=0, lt=1)
    validation: float = Field(default=0.2, gt=0, lt=1)
    test: float = Field(default=0.2, gt=0, lt=1)
    assign: dict[str, Literal["train", "validation", "test"]] = Field(
        default_factory=dict, description="globs of drive names that are put by hand; the first match counts"
    )

    @model_validator(mode="after")
    def _whole(self) -> Split:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train + validation + test is {total:g}, it must be 1")
        return self


class Dataset(Strict):
    """A selection over the frames of all drives."""

    sql: str = Field(description="SELECT over the view `frames`; must keep drive, frame and t_ns")
    payload: str = Field(description="the payload sensor whose pictures are packed")
    slices: dict[str, str] = Field(default_factory=dict, description="slice name -> SQL expression over the selection")
    split: Split = Split()
    rows_min: int = Field(default=1, ge=1, description="fewer rows than this in any split is an error")


class Training(Strict):
    """One training run on the CPU or under torchrun; everything that decides the weights."""

    seed: int = 0
    epochs: int = Field(default=8, ge=1)
    batch_size: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)


class SearchRange(Strict):
    """A range that the study samples from."""

    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _is_a_range(self) -> SearchRange:
        if self.low > self.high or (self.log and self.low <= 0):
            raise ValueError(f"low {self.low:g} to high {self.high:g} is no {'logarithmic ' if self.log else ''}range")
        return self


class Search(Strict):
    """A short study before the training; its best values replace those of ``training``."""

    trials: int = Field(default=3, ge=1)
    epochs: int = Field(default=2, ge=1)
    seed: int = 0
    space: dict[Literal["learning_rate", "weight_decay", "dropout"], SearchRange]


class Model(Strict):
    """What to learn from which dataset."""

    dataset: str
    targets: tuple[str, ...] = Field(min_length=1, description="value columns of the dataset, predicted from the picture")
    input_width: int = Field(default=160, ge=16, le=1920)
    input_height: int = Field(default=120, ge=16, le=1200)
    channels: int = Field(default=16, ge=4, le=128, description="width of the first convolution")
    augment_flip: bool = Field(default=False, description="mirror pictures and negate all targets, half of the time")
    training: Training = Training()
    search: Search | None = None


class Target(Strict):
    """A compile target."""

    kind: Literal["portable", "snapdragon"]
    calibration_rows: int = Field(default=128, ge=8)
    parity_rows: int = Field(default=64, ge=1, description="validation rows that the compiled model is compared on")
    soc_model: int = Field(default=52, description="snapdragon only: Qualcomm SoC number, 52 is SA8255 (HTP v73)")
    dsp_arch: int = Field(default=73, description="snapdragon only: the HTP architecture the binary must carry")


class Criterion(Strict):
    """One measured value and its bounds. A value that was not measured is NOT SHOWN and closes the gate."""

    value: str = Field(description="dotted path into the measured values, e.g. test.r2")
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _bounded(self) -> Criterion:
        if self.min is None and self.max is None:
            raise ValueError("a criterion needs min or max")
        return self


class Gates(Strict):
    """Criteria that the consuming stage checks before it works or publishes."""

    checkpoint: tuple[Criterion, ...] = Field(default=(), description="over metrics.json of a checkpoint, before it is compiled")
    artefact: tuple[Criterion, ...] = Field(
        default=(), description="over parity and task metric of an artefact, before it is published"
    )


Name = Annotated[str, Field(pattern=rf"^{NAME.pattern}$")]


class Declaration(Strict):
    """Everything that exists in a lake."""

    lakehouse: Name
    owner: str = Field(pattern=r"^(team:[A-Za-z0-9_-]+|[^@\s]+@[^@\s]+)$", description="team:name or an e-mail address")
    store: Store = Store()
    retention: Retention = Retention()
    ingest: Ingest = Ingest()
    rigs: dict[Name, Rig] = Field(min_length=1)
    datasets: dict[Name, Dataset] = Field(default_factory=dict)
    models: dict[Name, Model] = Field(default_factory=dict)
    targets: dict[Name, Target] = Field(default_factory=dict)
    gates: Gates = Gates()

    @model_validator(mode="after")
    def _names_exist(self) -> Declaration:
        payloads = {s for rig in self.rigs.values() for s, v in rig.sensors.items() if v.kind == "payload"}
        for name, dataset in self.datasets.items():
            if dataset.payload not in payloads:
                raise ValueError(f"datasets.{name}.payload {dataset.payload!r}: {nearest(dataset.payload, payloads)}")
        for name, model in self.models.items():
            if model.dataset not in self.datasets:
                raise ValueError(f"models.{name}.dataset {model.dataset!r}: {nearest(model.dataset, self.datasets)}")
        for gate in ("checkpoint", "artefact"):
            if self.targets and not getattr(self.gates, gate):
                raise ValueError(f"targets are declared, but gates.{gate} has no criterion: nothing would stand before a release")
        return self

    def names_drive(self, drive: str) -> bool:
        """Whether a rig is declared for the drive; a lake may hold drives of an earlier declaration."""
        return any(fnmatchcase(drive, rig.drives) for rig in self.rigs.values())

    def rig_of(self, drive: str) -> tuple[str, Rig]:
        """Name and rig of a drive: the first whose ``drives`` glob matches."""
        for name, rig in self.rigs.items():
            if fnmatchcase(drive, rig.drives):
                return name, rig
        globs = ", ".join(f"{n}: {r.drives}" for n, r in self.rigs.items())
        raise DeclarationError(f"No rig matches drive {drive!r}; declared are {globs}.", next_step="add a rig, or widen a glob")


def load_declaration(path: Path) -> Declaration:
    """Read and check ``lakehouse.yaml``.

    Raises:
        DeclarationError: no such file, not YAML, an unknown key (names the nearest known one), a value out of range.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DeclarationError(
            f"There is no declaration at {path}.", next_step="drivelake demo writes one, or pass --lake FOLDER"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DeclarationError(f"{path} cannot be read: {error}.", next_step="check its rights and encoding (UTF-8)") from None
    return parse_declaration(text, where=str(path))


def parse_declaration(text: str, *, where: str = "lakehouse.yaml") -> Declaration:
    """Check the text of a declaration; errors as in :func:`load_declaration`."""
    try:
        loaded = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DeclarationError(f"{where} is not YAML: {error}.", next_step="correct the line it names") from None
    if not isinstance(loaded, dict):
        raise DeclarationError(
            f"{where} holds {type(loaded).__name__}, expected keys and values.", next_step="see docs/declaration.md"
        )
    try:
        return Declaration.model_validate(loaded)
    except ValidationError as error:
        lines = [_explain(e["type"], e["loc"], e["msg"]) for e in error.errors()]
        raise DeclarationError(
            f"{where}: " + _sentence("; ".join(lines)), next_step="correct it; docs/declaration.md lists every key"
        ) from None


def _sentence(words: str) -> str:
    return words if words.endswith(("?", ".")) else f"{words}."


def _explain(kind: str, loc: tuple[str | int, ...], message: str) -> str:
    """One sentence for one pydantic error."""
    at = ".".join(str(part) for part in loc) or "top level"
    if kind == "extra_forbidden":
        return f"unknown key {at!r}; {nearest(str(loc[-1]), _keys_at(loc[:-1]))}"
    return f"{at}: {message.removeprefix('Value error, ')}"


def _keys_at(loc: tuple[str | int, ...]) -> list[str]:
    """Field names of the model that stands at ``loc``, walked through dicts, tuples and unions."""
    here: object = Declaration
    for part in loc:
        if isinstance(here, type) and issubclass(here, BaseModel):
            field = here.model_fields.get(str(part))
            here = field.annotation if field else None
        else:
            here = next((a for a in get_args(here) if isinstance(a, type) and issubclass(a, BaseModel)), None)
        if get_origin(here) in (Union, UnionType):
            here = next((a for a in get_args(here) if a is not type(None)), None)
    return list(here.model_fields) if isinstance(here, type) and issubclass(here, BaseModel) else []


def matches(name: str, pattern: str) -> bool:
    """Whether a file's path inside a drive matches a declared glob (case counts)."""
    return PurePosixPath(name).match(pattern)
