"""Histories of a lake as they come, and what must stay of each. Belongs here: making them, and the law of a collection.

``Story.needed`` is told from the definition alone: it knows every version because it published them, and asks the store only
what stands at a ref.
"""

import hashlib
import itertools
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from hypothesis import strategies as st

from drivelake.errors import Conflict, NotFound, StoreError
from drivelake.manifest import ASSETS, Manifest, hash_folder
from drivelake.publications import Key
from drivelake.retention import collect
from drivelake.versions.store import MAIN, publish
from drivelake.withdrawal import withdraw, withdrawals

KINDS = ("raw_logs", "signals", "curated_datasets", "soc_artefacts", "evidence")
PARTITIONS = ("d1", "d2")
BYTES = [bytes([65 + n]) * (n + 1) * 10 for n in range(5)]  # few, so that versions share them
NAMES = ("v1", "v2")
DAYS = (-1, -1, 0, 3, 40)

_few, _far = st.integers(0, 3), st.integers(0, 9)
_drive, _name = st.sampled_from(PARTITIONS), st.sampled_from(NAMES)
_publish = st.tuples(st.just("publish"), st.sampled_from(KINDS), _drive, st.sets(_few, max_size=3), _few)
_withdraw = st.tuples(st.just("withdraw"), _drive)
_rare = [
    st.tuples(st.just("revert"), _far),
    st.tuples(st.just("tag"), _name, _far),
    st.tuples(st.just("untag"), _name),
    st.tuples(st.just("branch"), _name, _far),
    st.tuples(st.just("unbranch"), _name),
    st.tuples(st.just("leave"), _drive, _few),
    _withdraw,
]
_clock = st.tuples(st.just("clock"), st.sampled_from((-500, -1, 1, 5, 30, 2000)))
_collect = st.tuples(st.just("collect"), st.sampled_from(DAYS))
_collect_at_once = st.tuples(st.just("collect"), st.just(-1))  # real clocks cannot be moved


def _of(kinds, **sizes):
    return st.lists(st.sampled_from(kinds).flatmap(lambda kind: kind), **sizes)


steps = _of([*[_publish] * 10, *_rare, _clock, _collect], min_size=3, max_size=16)
steps_in_real_time = _of([*[_publish] * 8, *_rare, _collect_at_once], min_size=3, max_size=9)


class Story:
    """A store, and every version that was published into it."""

    def __init__(self, store, scratch, *, fresh=None):
        """``fresh()`` gives the store as a machine sees it that has nothing of its own yet."""
        self.store, self.scratch, self.fresh = store, Path(scratch), fresh or (lambda: store)
        self.versions = {}  # Key -> (manifest, {file: bytes}, [(commit, time)])
        self.order = []  # (commit, Key), oldest first
        self.numbers = itertools.count()
        self.removed = 0

    def tell(self, steps):
        for name, *rest in steps:
            getattr(self, name)(*rest)

    def manifest(self, asset, partition, files, inputs=(), **fields):
        folder = self.scratch / f"{next(self.numbers)}"
        folder.mkdir(parents=True)
        for file, data in files.items():
            (folder / file).write_bytes(data)
        named = [{"asset": k.asset, "partition": k.partition, "version": k.version} for k in inputs]
        made = {"files": hash_folder(folder), "inputs": named, "code_version": "1", "parameters": {}, "tools": {}}
        return Manifest.model_validate({"asset": asset, "partition": partition, **made, **fields}), folder

    def put_up(self, asset, partition, files, inputs=(), **fields):
        """Publish; gives the version's key."""
        manifest, folder = self.manifest(asset, partition, files, inputs, **fields)
        commit = publish(self.store, manifest.name, folder, manifest.canonical(), message="new", metadata={"Drivelake-Run": "r"})
        key = Key(asset, partition, manifest.version)
        time = next(entry.time for entry in self.store.history(commit) if entry.commit == commit)
        self._note(key, manifest, files, commit, time)
        return key

    def _note(self, key, manifest, files, commit, time):
        places = self.versions.setdefault(key, (manifest, files, []))[2]
        if (commit, time) not in places:
            places.append((commit, time))
            self.order.append((commit, key))

    def at_main(self, path):
        return self._key(self.store.resolve(MAIN), path)

    def _key(self, commit, path):
        if "manifest.json" not in self.store.list(commit, path):
            return None
        return Key(*path.split("/"), hashlib.sha256(self.store.read(commit, path, "manifest.json")).hexdigest())

    # --- steps

    def publish(self, asset, partition, contents, upstream):
        above = [f"{a}/{p}" for a in KINDS[: KINDS.index(asset)] for p in PARTITIONS]
        heads = [key for key in map(self.at_main, above) if key is not None]
        files = {f"f{n}": BYTES[n + (asset == "raw_logs")] for n in contents}
        self.put_up(asset, partition, files, heads[-upstream:] if upstream else ())

    def leave(self, partition, content):
        """A publisher that was killed after its commit: a branch that nobody merges."""
        manifest, folder = self.manifest("signals", partition, {"left": b"left" + BYTES[content]})
        name = f"publish-{next(self.numbers)}"
        self.store.branch(name)
        self.store.put(name, manifest.name, folder, {"manifest.json": manifest.canonical()})
        version = manifest.version
        commit = self.store.commit(name, "left", {"Drivelake-Version": f"{manifest.name} {version}"})
        time = next(self.store.history(commit)).time
        self._note(Key("signals", partition, version), manifest, {"left": b"left" + BYTES[content]}, commit, time)

    def revert(self, back):
        commit, _ = self.order[-1 - back % len(self.order)] if self.order else (None, None)
        # what was collected does not come back by a revert
        if commit is not None and any(e.commit == commit for e in self.store.history(MAIN)) and self._can_go_back(commit):
            with suppress(Conflict):
                self.store.revert(commit)

    def _can_go_back(self, commit):
        parents = [e.commit for e in itertools.islice(self.store.history(commit), 2)]
        return all(self._key(c, p) is None or self.readable(c, self._key(c, p)) for c in parents[1:] for p in self._paths(c))

    def tag(self, name, back):
        commit, _ = self.order[-1 - back % len(self.order)] if self.order else (None, None)
        # nor does a tag bring back what was collected
        if commit is None or name in self.store.branches():
            return
        if all(self.readable(commit, self._key(commit, path)) for path in self._paths(commit)):
            self.store.tag(name, commit, self.store.tags().get(name))

    def untag(self, name):
        if name in self.store.tags():
            self.store.untag(name, self.store.tags()[name])

    def branch(self, name, back):
        # a server may keep one name for branches and tags
        if self.order and name not in self.store.branches() and name not in self.store.tags():
            self.store.branch(name, at=self.order[-1 - back % len(self.order)][0])

    def unbranch(self, name):
        if name in self.store.branches():
            self.store.delete_branch(name)

    def withdraw(self, drive):
        with suppress(NotFound):
            withdraw(self.store, drive, reason="asked for", authority="the owner")

    def clock(self, days):
        self.store.now += timedelta(days=days)

    # --- the law

    def readable(self, commit, key, store=None):
        """Whether a version reads back as it was published; other bytes than those are an error at once."""
        try:
            found = _content(store or self.store, commit, key.path)
        except StoreError:
            return False
        assert found == self.versions[key][1], f"{key} at {commit} holds other bytes"
        return True

    def _paths(self, commit):
        assets = [a for a in self.store.list(commit) if a in ASSETS]
        return [f"{a}/{p}" for a in assets for p in self.store.list(commit, a)]

    def needed(self, days, now):
        """Every version that a collection must keep, withdrawn ones included."""
        commits = {*self.store.branches().values(), *self.store.tags().values()}
        found = {key for c in commits for p in self._paths(c) if (key := self._key(c, p)) is not None}
        reached = {e.commit: e.time for c in commits for e in self.store.history(c)}
        since = min(now, max(reached.values())) - timedelta(days=days)
        for key, (_, _, places) in self.versions.items():
            times = [time for commit, time in places if commit in reached]
            if times and (key.asset in {"evidence", "soc_artefacts"} or max(times) >= since):
                found.add(key)
        waiting = list(found)
        while waiting:
            inputs = {Key(i.asset, i.partition, i.version) for i in self.versions[waiting.pop()][0].inputs} - found
            found |= inputs
            waiting.extend(inputs)
        return found

    def collect(self, days, now=None):
        """Collect, and hold the outcome against the definition."""
        store = self.store
        now = now or max(entry.time for entry in store.history(MAIN)) + timedelta(days=1)
        needed = self.needed(days, now)
        withdrawn = set(withdrawals(store))
        keep = {(c, key) for key in needed - withdrawn for c, _ in self.versions[key][2] if self.readable(c, key, self.fresh())}
        before = _stored(store)

        dry = collect(store, days, now=now, grace_s=0)
        assert _stored(store) == before, "a dry run removes nothing"
        done = collect(store, days, dry_run=False, now=now, grace_s=0)
        assert (done.ids, done.going) == (dry.ids, dry.going), "what was shown is what is done"
        assert {each.version for each in done.kept} == needed - withdrawn

        for commit, key in keep:
            assert self.readable(commit, key, self.fresh()), f"{key} at {commit} was kept and is gone"
        places = [(c, key) for key in needed - withdrawn for c, _ in self.versions[key][2]]
        marked = {name for c, key in places for name in store.objects(c, key.path)}
        after = _stored(store)
        assert after == before & marked, "what is marked stays, all else goes"
        assert done.removed.objects == len(before - after)
        again = collect(store, days, dry_run=False, now=now, grace_s=0)
        assert again.removed.objects == 0
        assert again.going == ()
        self.removed += done.removed.objects


def _stored(store):
    return {stored.id for stored in store.stored()}


def _content(store, commit, path):
    if hasattr(store, "content"):
        return store.content(commit, path)
    return {name: Path(file).read_bytes() for name, file in store.files(commit, path).items()}


__all__ = ["BYTES", "Story", "steps", "steps_in_real_time"]
