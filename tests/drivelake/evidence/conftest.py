"""What the tests of the report share: a chain of versions from raw logs to an artefact, written by hand, without a lake."""

import copy
import hashlib
import json

import pytest

from drivelake.evidence.verify import Verification
from drivelake.lake import Version
from drivelake.manifest import Input, Manifest, Reference, hash_folder

R2 = {"r2": 0.71, "r2_low": 0.61, "r2_high": 0.79, "rmse": 0.042, "mae": 0.031}
POINT = {"r2": 0.7, "rmse": 0.04, "mae": 0.03}
NONE = {"r2": None, "rmse": None, "mae": None}
GAIN = {"r2": 0.3, "r2_low": 0.1, "r2_high": 0.4}


def by_split(make):
    return {split: make(split) for split in ("train", "validation", "test")}


def metrics():
    """metrics.json as drivelake.learning.evaluate writes it."""
    predictors = {"network": R2, "ridge": {**R2, "r2": 0.41}, "mean": {**R2, "r2": -0.002}}
    gains = {"network_minus_ridge": GAIN, "network_minus_mean": GAIN}
    rows = {"day": {"train": 400, "validation": 90, "test": 88}, "night": {"train": 60, "validation": 12, "test": 12}}
    rows |= {"null": {"train": 20, "validation": 0, "test": 0}}
    return {
        **by_split(lambda split: {"n": 480, "drives": 3, "without_target": 1, **predictors, **gains}),
        "slices": {
            "light": {
                value: {split: {"n": n, "network": POINT if n else NONE} for split, n in counts.items()}
                for value, counts in rows.items()
            }
        },
        "per_target": {"curvature": by_split(lambda split: {"n": 480, **predictors})},
        "ridge_lambda": {"curvature": 10.0},
    }


def card(drives, left_out):
    """card.json as drivelake.datasets.curate writes it."""
    sides = dict(zip(drives, ("train", "validation", "test"), strict=False))
    return {
        "rows": 582,
        "splits": {"train": 480, "validation": 102, "test": 100},
        "drives": {drive: {"split": sides.get(drive, "train"), "rows": 97} for drive in drives if drive not in left_out},
        "slices": {
            "light": {
                "(none)": {"train": 20, "validation": 0, "test": 0},
                "day": {"train": 400, "validation": 90, "test": 88},
                "night": {"train": 60, "validation": 12, "test": 12},
            }
        },
        "values": {"curvature": {"min": -0.11, "max": 0.12, "mean": 0.001, "std": 0.03, "nulls": 0}},
        "left_out": left_out,
        "leakage": {
            "shared": {"raw_logs": [], "pictures": [], "times": []},
            "distinct_pictures": {"train": 480, "validation": 102, "test": 100},
        },
    }


def sync(excluded=None):
    """sync.json as drivelake.frames writes it."""
    sensor = {"kind": "value", "rule": "linear", "stamp": "receive", "clock": "can", "tolerance_ms": 50.0, "unit": "m/s"}
    counts = {"samples": 900, "matched": 97, "reused": 2, "unused": 700, "backward_stamps": 0, "missing": None}
    ages = {"p50": 2.0, "p95": 4.25, "p99": 5.0, "max": 6.5}
    can = {"method": "estimated", "first_ns": 1_699_999_999_000_000_000, "last_ns": 1_700_000_061_000_000_000}
    can |= {"offset_ns": 73_450_000, "drift_ppm": 41.5, "sigma_ms": 0.6, "drift_sigma_ppm": 3.5, "residual_ms": 0.8}
    can |= {"residual_p95_ms": 1.7, "residual_p99_ms": 1.9, "correlation": 0.97, "windows_tried": 9, "reason": ""}
    same = {"method": "same", "offset_ns": 0, "drift_ppm": 0.0, "sigma_ms": None, "residual_ms": None, "residual_p95_ms": None}
    clocks = {
        "reference": {"method": "same", "segments": [{**same, "windows": [], "windows_tried": 0, "reason": ""}], "reason": ""},
        "can": {"method": "estimated", "segments": [{**can, "windows": [{"t_s": 1.0}] * 8}], "compared": None, "reason": ""},
    }
    return {
        "excluded": excluded,
        "frames": 0 if excluded else 97,
        "reference": {
            "sensor": "camera",
            "ticks": 97,
            "first_ns": 1_700_000_000_000_000_000,
            "last_ns": 1_700_000_060_000_000_000,
        },
        "clocks": {} if excluded else clocks,
        "sensors": {"speed": {**sensor, **counts, "unmatched": {"too_old": 3}, "age_ms": ages}},
    }


def artefact_files():
    """What compile.targets writes, with the binary's own digest in build.json."""
    binary = b"an ONNX graph"
    built = {"bytes": len(binary), "sha256": hashlib.sha256(binary).hexdigest()}
    task = {"r2_float": 0.7, "r2_compiled": 0.69, "r2_drop": 0.01, "mae_float": 0.03, "mae_compiled": 0.031}
    deviation = {"mean_abs": 0.0004, "p99_abs": 0.002, "max_abs": 0.003}
    tensor = {"name": "image", "dtype": "float32", "shape": [1, 3, 120, 160], "layout": "NCHW", "range": [0.0, 1.0]}
    output = {"name": "curvature", "dtype": "float32", "shape": [1, 1], "layout": "batch, value", "range": None, "unit": "1/m"}
    return {
        "model.onnx": binary,
        "build.json": {
            "executed_on": "ONNX Runtime CPU",
            "toolchain": {"onnx": "1.23.2", "onnxruntime": "1.31.1"},
            "flags": {"opset": 21, "activations": "uint8"},
            "carried": {},
            "intermediate": {"float.onnx": {"bytes": 1234, "sha256": "f" * 64}},
            "binaries": {"model.onnx": built},
        },
        "contract.json": {
            "load": "model.onnx",
            "batch": 1,
            "inputs": [{**tensor, "colour_order": "RGB", "unit": "1", "quantisation": None}],
            "outputs": [{**output, "resolution": None, "quantisation": None}],
            "preprocessing": {"steps": ["Decode the picture to 8-bit RGB.", "Divide every value by 255."]},
        },
        "parity.json": {
            "split": "validation",
            "rows": {"drive": ["b", "b"], "frame": [0, 1], "t_ns": [1, 2]},
            "targets": {"curvature": {"unit": "1/m"}},
            "parity": {"rows": 64, **deviation},
            "task": {"rows": 64, "split": "validation", **task},
            "per_target": {"curvature": {"parity": deviation, "task": task}},
        },
    }


class Descent:
    """A chain that can be bent before it is built: ``files`` and ``facts`` by (asset, partition), ``gates``, ``drives``."""

    def __init__(self, folder, drives=("a", "b", "c"), excluded=None):
        self.folder = folder
        self.excluded = excluded or {}
        self.drives = drives
        self.gates = {
            "checkpoint": [{"value": "test.network.r2", "min": 0.5, "max": None}],
            "artefact": [{"value": "parity.mean_abs", "min": None, "max": 0.001}],
        }
        self.files, self.facts, self.registered = {}, {}, {}
        for drive in drives:
            log = f"log of {drive}".encode()
            channel = {"name": "/imu", "type": "Imu", "messages": 500}
            report = {"format": "mcap", "channels": [channel, {**channel, "messages": 400}], "damage": [], "notes": []}
            health = {"logs": {"camera.mcap": report}, "quarantined": {}}
            self.files["raw_logs", drive] = {"logs/camera.mcap": log, "health.json": health}
            self.facts["raw_logs", drive] = {"vehicle": "rav4", "tags": {"light": "day"}, "quarantined": {}}
            self.files["signals", drive] = {"index.json": {"tables": []}}
            self.files["sensor_frames", drive] = {"sync.json": sync(self.excluded.get(drive))}
            self.facts["sensor_frames", drive] = {"frames": 97, "excluded": self.excluded.get(drive)}
        self.files["curated_datasets", "lane"] = {"card.json": card(drives, self.excluded)}
        self.facts["curated_datasets", "lane"] = {"left_out": self.excluded}
        training = {"seed": 1, "epochs": 3, "learning_rate": 0.001}
        study = {"number": 0, "state": "complete", "params": {"learning_rate": 0.001}, "epochs": 2, "validation_loss": 0.4}
        curve = [
            {"epoch": at, "learning_rate": 0.001, "train_loss": 1 / (at + 1), "validation_loss": loss}
            for at, loss in enumerate((0.9, 0.4, 0.5))
        ]
        self.files["checkpoints", "steer"] = {
            "metrics.json": metrics(),
            "model.json": {"targets": ["curvature"], "input_width": 160, "training": {**training, "learning_rate": 0.0021}},
            "study.json": [study, {**study, "number": 1, "state": "pruned", "validation_loss": 0.1}],
            "curve.json": curve,
        }
        self.parameters = {
            "checkpoints": {"training": training},
            "curated_datasets": {
                "sql": "SELECT * FROM frames WHERE speed > 2",
                "payload": "camera",
                "slices": {"light": "tag_light"},
                "split": {"seed": 3, "train": 0.6, "validation": 0.2, "test": 0.2, "assign": {"c*": "test"}},
            },
        }
        self.files["soc_artefacts", "steer@portable"] = artefact_files()

    def build(self):
        """The artefact and every version by digest."""
        self.versions = {}
        frames, raws = [], []
        for drive in self.drives:
            raw = self._version("raw_logs", drive)
            signals = self._version("signals", drive, [raw])
            frames.append(self._version("sensor_frames", drive, [signals]))
            raws.append(raw)
        dataset = self._version("curated_datasets", "lane", [*frames, *raws])
        checkpoint = self._version("checkpoints", "steer", [dataset])
        self.parameters["soc_artefacts"] = {"target": {"kind": "portable", "parity_rows": 64}, "gates": self.gates}
        self.artefact = self._version("soc_artefacts", "steer@portable", [checkpoint, dataset])
        return self.artefact, self.versions

    def verification(self, **found):
        """What walking this chain without a disagreement gives, ``found`` aside."""
        artefact = self.artefact
        counts = {"versions": len(self.versions), "files": 20, "bytes": 12_345, "raw_logs": len(self.drives)}
        return Verification(artefact=artefact.name, version=artefact.digest, **{**counts, **found})

    def _version(self, asset, partition, inputs=()):
        home = self.folder / asset / partition
        home.mkdir(parents=True, exist_ok=True)
        for name, content in self.files[asset, partition].items():
            path = home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        entries = hash_folder(home)
        manifest = Manifest(
            asset=asset,
            partition=partition,
            files=entries,
            references=tuple(Reference(**kept) for kept in self.registered.get((asset, partition), ())),
            inputs=tuple(Input(asset=v.manifest.asset, partition=v.manifest.partition, version=v.digest) for v in inputs),
            code_version="1",
            parameters=copy.deepcopy(self.parameters.get(asset, {})),
            tools={"python": "3.11.2", **({"torch": "2.13.0"} if asset in {"checkpoints", "soc_artefacts"} else {})},
            facts=self.facts.get((asset, partition), {}),
        )
        version = Version(manifest=manifest, commit="0" * 40, files={e.path: home / e.path for e in entries})
        self.versions[version.digest] = version
        return version


@pytest.fixture
def descent(tmp_path):
    """descent(drives=(..), excluded={drive: reason}) -> a chain to bend and to build."""
    made = []

    def make(**asked):
        made.append(Descent(tmp_path / f"chain-{len(made)}", **asked))
        return made[-1]

    return make
