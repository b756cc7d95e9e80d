"""Random histories: whatever is done in whatever order, every backend shows what a model of a few lines says."""

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivelake.errors import Conflict
from drivelake.versions import MAIN

PATHS = ("raw_logs/drive_1", "raw_logs/drive_10", "signals/drive_1")
BRANCHES = ("left", "right")
EXAMPLES = {"dvc-local": 25, "dvc-s3": 4, "lakefs-local": 6, "lakefs-s3": 3}


class Model:
    """Commits as (parents, content by path), by a number; refs by name. Content is one byte string a path."""

    def __init__(self):
        self.commits = [((), {})]
        self.branches = {MAIN: 0}
        self.tags = {}

    def tree(self, number):
        return self.commits[number][1]

    def commit(self, branch, tree, *others):
        self.commits.append(((self.branches[branch], *others), tree))
        self.branches[branch] = len(self.commits) - 1

    def ancestors(self, number):
        parents = self.commits[number][0]
        return {number}.union(*(self.ancestors(parent) for parent in parents))

    def changed(self, number, path):
        """Whether a commit with one parent changed the path."""
        parents, tree = self.commits[number]
        return len(parents) == 1 and tree.get(path) != self.tree(parents[0]).get(path)

    def brought_together(self, base, ours, theirs):
        """Three trees made one, path by path; None where both sides changed a path to different content."""
        merged = dict(ours)
        for path in PATHS:
            old, mine, other = (tree.get(path) for tree in (base, ours, theirs))
            if other in (old, mine):
                continue
            if mine != old:
                return None
            merged.pop(path, None)
            if other is not None:
                merged[path] = other
        return merged

    def merge(self, source, into):
        """Whether it can be done; does it. None where both sides made the same: then a merge commit may stand there or not."""
        ours, theirs = self.branches[into], self.branches[source]
        shared = self.ancestors(ours) & self.ancestors(theirs)
        if theirs in shared:
            return True
        base = max(shared, key=lambda number: (len(self.ancestors(number)), number))
        tree = self.brought_together(self.tree(base), self.tree(ours), self.tree(theirs))
        if tree is not None and tree == self.tree(ours):
            return None
        if tree is not None:
            self.commit(into, tree, theirs)
        return tree is not None

    def revert(self, number, into):
        """Whether it can be done; does it."""
        before = self.commits[self.commits[number][0][0]][1]
        ours = self.tree(self.branches[into])
        tree = self.brought_together(self.tree(number), ours, before)
        if tree is not None and tree != ours:
            self.commit(into, tree)
        return tree is not None


class Pair:
    """A store and its model, driven together; ``ids`` names the model's commits in the store."""

    def __init__(self, store, make):
        self.store, self.make, self.model = store, make, Model()
        self.ids = {0: store.resolve(MAIN)}
        self.made = []

    def apply(self, step):
        name, *arguments = step
        getattr(self, name)(*arguments)
        assert dict(self.store.branches()) == {name: self.ids[number] for name, number in sorted(self.model.branches.items())}
        assert dict(self.store.tags()) == {name: self.ids[number] for name, number in sorted(self.model.tags.items())}

    def _moved(self, branch):
        number = self.model.branches[branch]
        self.ids.setdefault(number, self.store.resolve(branch))

    def _started(self, branch):
        if branch not in self.model.branches:
            self.store.branch(branch)
            self.model.branches[branch] = self.model.branches[MAIN]

    def change(self, branch, path, value):
        """Commit a content, or a removal where value is None."""
        self._started(branch)
        head = self.model.branches[branch]
        tree = dict(self.model.tree(head))
        if value is None and path not in tree:
            return
        if value is None:
            self.store.remove(branch, path)
            del tree[path]
        else:
            files = {f"f/{n}": value for n in range(len(value))}
            self.store.put(branch, path, self.make(files), {"manifest.json": value})
            tree[path] = value
        # Commits of one content, parent, message and second are one commit: the model tells them apart.
        got = self.store.commit(branch, f"{path} {value!r} as {len(self.model.commits)}", {})
        if tree == self.model.tree(head):
            assert got == self.ids[head]
            return
        self.model.commit(branch, tree)
        self._moved(branch)
        assert got == self.ids[self.model.branches[branch]]
        self.made.append(self.model.branches[branch])

    def merge(self, source, into):
        self._started(source)
        self._started(into)
        possible = self.model.merge(source, into)
        if possible is None:
            return
        if possible:
            got = self.store.merge(source, into)
            self._moved(into)
            assert got == self.ids[self.model.branches[into]]
        else:
            with pytest.raises(Conflict):
                self.store.merge(source, into)

    def revert(self, which):
        reachable = [n for n in self.made if n in self.model.ancestors(self.model.branches[MAIN])]
        if not reachable:
            return
        number = reachable[which % len(reachable)]
        if self.model.revert(number, MAIN):
            got = self.store.revert(self.ids[number])
            self._moved(MAIN)
            assert got == self.ids[self.model.branches[MAIN]]
        else:
            with pytest.raises(Conflict):
                self.store.revert(self.ids[number])

    def tag(self, name, branch, careful):
        self._started(branch)
        number, at = self.model.branches[branch], self.model.tags.get(name)
        if careful:
            self.store.tag(name, branch, expected=None if at is None else self.ids[at])
            self.model.tags[name] = number
        elif at is not None and self.ids[at] != self.ids[number]:
            with pytest.raises(Conflict):
                self.store.tag(name, branch)

    def drop(self, branch):
        if branch in self.model.branches:
            self.store.delete_branch(branch)
            del self.model.branches[branch]

    def compare(self, reader, content):
        """Every commit that a branch or a tag still has reads as the model says: immutability, from another machine."""
        kept = set().union(*(self.model.ancestors(n) for n in (*self.model.branches.values(), *self.model.tags.values())))
        for number in sorted(kept):
            ref, tree = self.ids[number], self.model.tree(number)
            assert [f"{a}/{p}" for a in reader.list(ref) for p in reader.list(ref, a)] == sorted(tree)
            assert {path: reader.read(ref, path, "manifest.json") for path in tree} == tree
        head = self.model.branches[MAIN]
        for path, value in self.model.tree(head).items():
            assert content(reader, MAIN, path) == {f"f/{n}": value for n in range(len(value))}
            changes = [entry.commit for entry in reader.history(MAIN, path)]
            assert set(changes) <= {self.ids[n] for n in self.model.ancestors(head) if self.model.changed(n, path)}
            # Not always the newest: a side branch may have taken away what it had brought, and main kept its own.
            assert value in [reader.read(c, path, "manifest.json") for c in changes if reader.list(c, path)]
        for one, two in itertools.islice(itertools.pairwise(sorted(kept)), 6):
            left, right = self.model.tree(one), self.model.tree(two)
            assert reader.diff(self.ids[one], self.ids[two]) == tuple(p for p in PATHS if left.get(p) != right.get(p))
        found = [entry.commit for entry in reader.history(MAIN)]
        assert len(found) == len(set(found))
        expected = {self.ids[number] for number in self.model.ancestors(head)}
        assert expected <= set(found)
        for number in self.model.ancestors(head):
            for parent in self.model.commits[number][0]:
                assert self.ids[parent] == self.ids[number] or found.index(self.ids[number]) < found.index(self.ids[parent])


branch = st.sampled_from(BRANCHES)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("change"), branch, st.sampled_from(PATHS), st.sampled_from([b"", b"1", b"22", None])),
        st.tuples(st.just("change"), branch, st.sampled_from(PATHS), st.sampled_from([b"", b"1", b"22"])),
        st.tuples(st.just("merge"), branch, st.just(MAIN)),
        st.tuples(st.just("merge"), st.just(MAIN), branch),
        st.tuples(st.just("revert"), st.integers(0, 9)),
        st.tuples(st.just("tag"), st.sampled_from(["prod", "v1"]), st.sampled_from([MAIN, *BRANCHES]), st.booleans()),
        st.tuples(st.just("drop"), branch),
    ),
    min_size=8,
    max_size=16,
)


@pytest.mark.slow
def test_any_history_reads_as_the_model_says(site, new_site, make, content):
    @settings(max_examples=EXAMPLES[site.kind], deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
    @given(steps)
    def each(steps):
        place = new_site(site.kind)
        pair = Pair(place.create(), make)
        for step in steps:
            pair.apply(step)
        pair.compare(place.another(), content)

    each()
