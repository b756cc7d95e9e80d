"""Whatever on main no version and not the store brought is named."""

import subprocess

import pygit2
import pytest

from drivelake.errors import StoreError
from drivelake.versions import MAIN, EmbeddedStore
from drivelake.versions.dvc.gitobjects import BLOB, TREE
from drivelake.versions.dvc.paths import place, shard
from drivelake.versions.s3.bucket import Bucket

PATH = "raw_logs/drive_01"
PLACE = place(PATH)
WRONG = f"{int(shard('drive_09'), 16) ^ 1:02x}"
LINK, EXECUTABLE = 0o120000, 0o100755


@pytest.fixture
def store(embedded):
    return embedded


@pytest.fixture
def filled(store, put_up):
    put_up(PATH, {"a": b"1"})
    put_up("soc_artefacts/steering@portable", {"model.onnx": b"2"})
    return store


@pytest.fixture
def graft(filled):
    """graft({path: (content, mode)}) commits to main what somebody with git could; a content of None takes the path away."""
    graph = filled._graph

    def go(changes):
        head = graph.resolve(MAIN)
        entries = {}
        for path, (content, mode) in changes.items():
            write = graph.objects.write_tree if mode == TREE else graph.objects.write_blob
            entries[path] = None if content is None else (write(content), mode)
        new = graph.write_commit(graph.graft(graph.root(head), entries), [head], "by hand")
        assert graph.move("refs/heads/main", head, new)

    return go


def config_of(store):
    repository = pygit2.Repository(str(store.root / "repo.git"))
    return repository.revparse_single("main:.dvc/config").data


def git(store, *arguments):
    return subprocess.run(["git", "--git-dir", store.root / "repo.git", *arguments], check=True, capture_output=True, text=True)


def test_a_store_that_publish_alone_wrote_holds_no_strangers(store, filled):
    assert filled.strangers() == []
    first = list(filled.history())[-1].commit
    assert filled.strangers(first) == []


def test_a_store_of_another_layout_is_refused_when_it_is_opened(filled, graft):
    graft({".drivelake/layout": (b"3: something newer\n", BLOB)})
    with pytest.raises(StoreError, match=r"has the layout b'3: something newer.*expected b'2: "):
        EmbeddedStore(filled.root)
    graft({".drivelake/layout": (None, BLOB), "raw_logs/drive_02/manifest.json": (b"{}", BLOB)})
    with pytest.raises(StoreError, match=r"of the earlier layout, each partition directly below its asset.*Next: read it with"):
        EmbeddedStore(filled.root)


@pytest.mark.parametrize("name", ['a "quoted" lake', "it's # here", "über lake"])
def test_the_store_finds_its_own_config_in_order_wherever_it_is_and_after_it_moved(tmp_path, name):
    store = EmbeddedStore.create(tmp_path / name)
    assert store.strangers() == []
    assert EmbeddedStore(store.root.rename(tmp_path / "moved")).strangers() == []


@pytest.mark.parametrize(
    ("path", "content", "mode", "named"),
    [
        ("README", b"", BLOB, "README"),
        ("extra/x/manifest.json", b"{}", BLOB, "extra"),
        (".github/run.yml", b"", BLOB, ".github"),
        ("signals", b"no folder", BLOB, "signals"),
        ("signals", b"/etc", LINK, "signals"),
        (".dvcignore", b"raw_logs\n", BLOB, ".dvcignore"),
        (".dvcignore", b"", LINK, ".dvcignore"),
        (".dvc", b"", BLOB, ".dvc"),
        (".dvc/config.local", b"", BLOB, ".dvc/config.local"),
        (".dvc/plots/x.json", b"", BLOB, ".dvc/plots"),
        ("raw_logs/notes.txt", b"", BLOB, "raw_logs/notes.txt"),
        ("raw_logs/.hidden/manifest.json", b"{}", BLOB, "raw_logs/.hidden"),
        ("raw_logs/drive_09/manifest.json", b"{}", BLOB, "raw_logs/drive_09"),
        ("raw_logs/0/drive_09/manifest.json", b"{}", BLOB, "raw_logs/0"),
        ("raw_logs/AB/drive_09/manifest.json", b"{}", BLOB, "raw_logs/AB"),
        (f"raw_logs/{WRONG}/drive_09/manifest.json", b"{}", BLOB, f"raw_logs/{WRONG}/drive_09"),
        ("raw_logs/00", {}, TREE, "raw_logs/00"),
        (f"{place('withdrawals/drive_01')}/tombstone.json", b"{}", BLOB, place("withdrawals/drive_01")),
        (".drivelake", b"", BLOB, ".drivelake"),
        (".drivelake/layout", b"3\n", BLOB, ".drivelake/layout"),
        (".drivelake/notes", b"", BLOB, ".drivelake/notes"),
        (f"{place('raw_logs/a b')}/manifest.json", b"{}", BLOB, place("raw_logs/a b")),
        (f"{PLACE}/model.bin", b"x", BLOB, f"{PLACE}/model.bin"),
        (f"{PLACE}/data/a", b"x", BLOB, f"{PLACE}/data"),
        (f"{PLACE}/manifest.json", b"{}", LINK, f"{PLACE}/manifest.json"),
        (f"{PLACE}/manifest.json", b"{}", EXECUTABLE, f"{PLACE}/manifest.json"),
        (f"{PLACE}/data.dvc", {}, TREE, f"{PLACE}/data.dvc"),
        (f"{PLACE}/manifest.json", None, BLOB, PLACE),
        (f"{PLACE}/data.dvc", None, BLOB, PLACE),
        (place("raw_logs/empty"), {}, TREE, place("raw_logs/empty")),
        ("new\nline\x1b", b"", BLOB, "new\\nline\\x1b"),
        ("\udcff", b"", BLOB, "\\udcff"),
    ],
)
def test_what_does_not_belong_is_named_once(filled, graft, path, content, mode, named):
    graft({path: (content, mode)})
    assert filled.strangers() == [named]


@pytest.mark.parametrize(
    "change",
    [
        lambda config: b"",
        lambda config: b"\xff" + config,
        lambda config: config + b"    jobs = 1\n",
        lambda config: config + b"[core]\n",
        lambda config: config.replace(b"analytics = false", b"analytics = true"),
        lambda config: config.replace(b'url = "/', b'url = "https://evil.invalid/'),
        lambda config: config.replace(b'url = "/', b'url = "s3://'),
        lambda config: config.replace(b'url = "/', b'url = "file:///'),
        lambda config: config.replace(b'url = "/', b'url = "../'),
        lambda config: config.replace(b'url = "/', b"url = /"),
        lambda config: config.replace(b'url = "/', b'url = "/a", "/'),
        lambda config: config.replace(b'url = "/', 'url = "/a\u2028    url = https://evil.invalid/'.encode()),
    ],
)
def test_a_config_of_another_form_is_named(filled, graft, change):
    changed = change(config_of(filled))
    assert changed != config_of(filled)
    graft({".dvc/config": (changed, BLOB)})
    assert filled.strangers() == [".dvc/config"]


def test_all_strangers_are_named_paths_before_refs_each_sorted(filled, graft):
    graft({"z": (b"", BLOB), "a": (b"", BLOB), f"{PLACE}/x": (b"", BLOB)})
    filled.branch("work")
    assert filled.strangers() == ["a", f"{PLACE}/x", "z", "refs/heads/work"]


def test_refs_that_the_store_does_not_make_are_named(filled, put_up):
    head = filled.resolve(MAIN)
    seen = []
    put_up(PATH, {"a": b"2"}, on_step=lambda _: seen.append(filled.strangers()))
    assert seen == [[]] * 5, "a publish at work is no stranger"
    filled.tag("release-1", head)
    assert filled.strangers() == []
    strange = ["refs/heads/Main", f"refs/heads/{head}", "refs/notes/x", "refs/remotes/o/main", "refs/stash", f"refs/tags/{head}"]
    for ref in strange:
        git(filled, "update-ref", ref, head)
    assert filled.strangers() == sorted(strange)
    git(filled, "pack-refs", "--all")
    assert EmbeddedStore(filled.root).strangers() == sorted(strange)


def test_the_config_on_a_bucket_names_that_bucket_by_whatever_endpoint(tmp_path, bucket_url, s3):
    store = EmbeddedStore.create(tmp_path / "one", Bucket(bucket_url, s3))
    assert f'url = "{bucket_url}"\n    endpointurl = "{s3}"\n' in config_of(store).decode()
    graph, made = store._graph, config_of(store)

    def strangers_with(config):
        root = graph.graft(graph.root(graph.resolve(MAIN)), {".dvc/config": (graph.objects.write_blob(config), BLOB)})
        return store.strangers(graph.write_commit(root, [graph.resolve(MAIN)], "by hand"))

    assert store.strangers() == []
    assert strangers_with(made.replace(s3.encode(), b"https://s3.example.org")) == []
    for wrong in (
        made.replace(bucket_url.encode(), b"s3://elsewhere/lake"),
        made.replace(s3.encode(), b'https://s3.example.org"\n    url = "s3://elsewhere'),
        made + b"[core]\n",
        b"",
    ):
        assert strangers_with(wrong) == [".dvc/config"]
