"""What tests share besides fixtures: a declaration small enough to learn from in seconds."""

import yaml


def small_declaration(**ingest) -> str:
    """The shipped example, cut down until it learns in seconds, with gates that only ask for a measured value."""
    from drivelake.demo import example

    declared = yaml.safe_load(example("generated"))
    declared["ingest"] = {"inbox": "inbox", "quiet_s": 0, **ingest}
    for dataset in declared["datasets"].values():
        dataset["split"] = {"assign": {"*1": "train", "*2": "validation", "*3": "test", "*5": "test", "*": "train"}}
    for model in declared["models"].values():
        model.update({"input_width": 64, "input_height": 48, "channels": 4})
        model["training"] = {"epochs": 2, "batch_size": 32, "seed": 1}
        model["search"] = {"trials": 2, "epochs": 1, "space": {"learning_rate": {"low": 0.001, "high": 0.01, "log": True}}}
    declared["targets"] = {"portable": {"kind": "portable", "calibration_rows": 16, "parity_rows": 16}}
    declared["gates"] = {
        "checkpoint": [{"value": "test.network.rmse", "max": 10.0}],
        "artefact": [{"value": "parity.mean_abs", "max": 10.0}],
    }
    return yaml.safe_dump(declared, sort_keys=False)
