"""A short study before the training: which values of the declared ranges give the least validation loss.

The study lives in a SQLite file and outlives its process: started again with the same key it goes on where it was
killed, and ends with the same trials. Never here: the final training, test data, wall-clock time in what is returned.
"""

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import JsonValue, ValidationError

from drivelake.declaration import Model, Search, Training
from drivelake.errors import DatasetError, DeclarationError, DrivelakeError
from drivelake.learning.data import Samples, load_split
from drivelake.learning.train import Epoch, Progress, fit

if TYPE_CHECKING:
    import optuna
    from optuna import Study, Trial
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

__all__ = ["search"]

HEARTBEAT_S = 5
# A trial without a heartbeat for this long belongs to a process that has gone; it is run again.
GRACE_S = 15
RETRIES = 3
# Trials before TPE trusts its own model of the space, and before a median is worth pruning by.
RANDOM_TRIALS = 4
UNPRUNED_TRIALS = 2


@dataclass(frozen=True)
class Finished:
    """One trial as it is published; ``validation_loss`` is the least of its epochs, null where it diverged at once."""

    number: int
    state: Literal["complete", "pruned", "diverged"]
    params: dict[str, float]
    epochs: int
    validation_loss: float | None


def search(
    dataset: Path, model: Model, study_path: Path, *, study_key: str, progress: Progress | None = None
) -> tuple[Model, list[dict[str, JsonValue]]]:
    """Run, or take up again, the declared search.

    The first trial is the declared values themselves where they lie in the ranges. Every trial's sampler is seeded by
    the search seed and the number of trials before it, so a study that was killed gives what an unbroken one gives.

    Args:
        dataset: folder of a curated dataset; its train and validation splits are used.
        model: without ``search``, it comes back as it is, with no trials.
        study_path: the SQLite file, made when absent; it may hold other studies.
        study_key: names the study; derive it from everything the result depends on (dataset version, declaration).
        progress: one line a trial.

    Returns:
        The model with the best values in ``training``, and the finished trials as in :class:`Finished`.

    Raises:
        DatasetError: the dataset cannot be learnt from, or no trial came to an end.
        DeclarationError: a range reaches values that ``training`` does not allow.
        DrivelakeError: another process is at work on the same study.

    """
    if model.search is None:
        return model, []
    say = progress or (lambda _: None)
    samples, validation = load_split(dataset, model, "train"), load_split(dataset, model, "validation")
    storage = _storage(study_path)
    study = _open_study(storage, study_key)
    _retry_abandoned(study, storage, say)
    _enqueue_declared(study, model.training, model.search)
    objective = _objective(samples, validation, model, model.search)
    while (count := len(_finished(study))) < model.search.trials:
        study.sampler = _sampler(model.search.seed + count)
        study.optimize(objective, n_trials=1)
        last = _finished(study)[-1]
        loss = "none" if last.validation_loss is None else f"{last.validation_loss:.4f}"
        values = ", ".join(f"{name} {value:.3g}" for name, value in last.params.items())
        say(f"trial {last.number + 1}/{model.search.trials} {last.state}: {values}; validation loss {loss}")
    trials = _finished(study)
    scores = [(t.validation_loss, t.number) for t in trials if t.state == "complete" and t.validation_loss is not None]
    if not scores:
        raise DatasetError(f"None of {len(trials)} trials came to an end.", next_step="lower the range of learning_rate")
    best = trials[min(scores)[1]]
    return model.model_copy(update={"training": _training(model.training, best.params)}), [asdict(trial) for trial in trials]


def _storage(path: Path) -> "RDBStorage":
    import optuna
    import sqlalchemy

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # progress speaks instead
    path.parent.mkdir(parents=True, exist_ok=True)
    with _heartbeats_are_experimental():
        return optuna.storages.RDBStorage(
            sqlalchemy.URL.create("sqlite", database=str(path)).render_as_string(),
            engine_kwargs={"connect_args": {"timeout": 60}},
            heartbeat_interval=HEARTBEAT_S,
            grace_period=GRACE_S,
            heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=RETRIES),
        )


def _open_study(storage: "RDBStorage", key: str) -> "Study":
    import optuna

    return optuna.create_study(
        study_name=key,
        storage=storage,
        direction="minimize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED_TRIALS),
    )


@contextlib.contextmanager
def _heartbeats_are_experimental() -> Iterator[None]:
    """Silence optuna's warning about them: that heartbeats bring killed trials back is held by a test of ours."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def _retry_abandoned(study: "Study", storage: "RDBStorage", say: Progress) -> None:
    """Queue again what a process that has gone left running; wait until it is certain that it has."""
    import optuna

    def left_running() -> "list[FrozenTrial]":
        return study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))

    def fail_stale() -> None:
        with _heartbeats_are_experimental():
            optuna.storages.fail_stale_trials(study)

    if not left_running():
        return
    say(f"a trial was left running; it is taken up again after {GRACE_S} s without a sign of life")
    fail_stale()
    # one that was killed before its first sign of life has no time since which there was none: let it be now
    of_study = storage.get_study_id_from_name(study.study_name)
    for trial in left_running():
        storage.record_heartbeat(storage.get_trial_id_from_study_id_trial_number(of_study, trial.number))
    deadline_s = time.monotonic() + GRACE_S + 3
    while running := left_running():
        if time.monotonic() > deadline_s:
            raise DrivelakeError(
                f"Trial {running[0].number} of study {study.study_name!r} is still being run by another process.",
                next_step="wait for that process, or remove the study file to begin afresh",
            )
        time.sleep(0.5)
        fail_stale()


def _enqueue_declared(study: "Study", training: Training, space: Search) -> None:
    """Put the declared values first, so that a search never ends below them on validation."""
    declared: dict[str, float] = {name: getattr(training, name) for name in space.space}
    inside = all(span.low <= declared[name] <= span.high for name, span in space.space.items())
    if inside and not study.get_trials(deepcopy=False):
        study.enqueue_trial(declared)


def _sampler(seed: int) -> "optuna.samplers.BaseSampler":
    import optuna

    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=RANDOM_TRIALS)


def _objective(samples: Samples, validation: Samples, model: Model, space: Search) -> "Callable[[Trial], float]":
    """Train for the search's epochs with sampled values; the least validation loss counts."""
    import optuna

    def objective(trial: "Trial") -> float:
        params: dict[str, float] = {
            name: trial.suggest_float(name, span.low, span.high, log=span.log) for name, span in space.space.items()
        }
        training = _training(model.training, {**params, "epochs": space.epochs})

        def on_epoch(done: Epoch) -> None:
            trial.report(done.validation_loss, done.epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        try:
            _, curve = fit(samples, validation, model.model_copy(update={"training": training}), on_epoch=on_epoch)
        except FloatingPointError as error:
            trial.set_user_attr("diverged", str(error))
            raise optuna.TrialPruned from None
        return min(epoch.validation_loss for epoch in curve)

    return objective


def _training(declared: Training, values: Mapping[str, float]) -> Training:
    try:
        return Training.model_validate({**declared.model_dump(), **values})
    except ValidationError as error:
        first = error.errors()[0]
        raise DeclarationError(
            f"search.space: {first['loc'][0]} {first['input']}: {first['msg']}.", next_step="narrow the range"
        ) from None


def _finished(study: "Study") -> list[Finished]:
    """List complete, pruned and diverged trials in the order they were begun, numbered 0.. without the killed ones."""
    import optuna

    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    finished = []
    for number, trial in enumerate(study.get_trials(deepcopy=False, states=states)):
        losses = list(trial.intermediate_values.values())
        state: Literal["complete", "pruned", "diverged"] = "complete" if trial.state == states[0] else "pruned"
        state = "diverged" if "diverged" in trial.user_attrs else state
        finished.append(Finished(number, state, dict(sorted(trial.params.items())), len(losses), min(losses, default=None)))
    return finished
