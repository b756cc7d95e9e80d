"""Laws of the log: nothing appended is lost, nothing covered is changed unseen, and a kill leaves nothing broken."""

import base64
import hashlib
import json
import multiprocessing
import os
import re
import shutil
import signal
from functools import cache

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.errors import NotFound, StoreError, VerificationFailed
from drivelake.evidence.checkpoint import Checkpoint, open_note, sign_note
from drivelake.evidence.keys import PublicKey, create_keys, load_public, load_signer
from drivelake.evidence.log import EvidenceLog
from drivelake.evidence.policy import INVENTORY, TEST_RESULT, Policy
from drivelake.evidence.statements import Subject, gate_result, inventory, open_envelope, sign
from drivelake.manifest import FileEntry, Manifest, merkle_root

ORIGIN = Policy.default().log_origin


def manifest(number):
    files = (FileEntry(path=f"logs/{number}.mf4", bytes=number, sha256=f"{number:064x}"),)
    return Manifest(
        asset="raw_logs", partition=f"d{number}", files=files, code_version="1", parameters={}, tools={"python": "3.11"}
    )


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    folder = tmp_path_factory.mktemp("room")
    create_keys(folder / "private", folder / "trust")
    create_keys(folder / "foreign", folder / "elsewhere")
    return folder


@pytest.fixture(scope="module")
def keys(room):
    return load_public(room / "trust")


@pytest.fixture(scope="module")
def envelope(room):
    logger = load_signer(room / "private", "logger")
    return cache(lambda number: sign(inventory(manifest(number)), logger))


@pytest.fixture
def opened(room, keys):
    """Opens a log as its owner, or as a reader."""

    def open_log(folder, *, owner=True, **more):
        signer = load_signer(room / "private", "log") if owner else None
        return EvidenceLog(folder, origin=ORIGIN, public_keys=keys, signer=signer, **more)

    return open_log


@pytest.fixture
def honest(opened, envelope, tmp_path):
    """A folder with a log of seven lines, appended in three batches."""
    folder = tmp_path / "evidence"
    folder.mkdir()
    for batch in (range(3), range(3, 4), range(4, 7)):
        opened(folder).append([envelope(n) for n in batch])
    return folder


def lines_of(folder):
    return (folder / "log.jsonl").read_bytes().splitlines(keepends=True)


def test_what_was_appended_reads_back_in_order(honest, opened, envelope):
    assert opened(honest, owner=False).read() == [envelope(n) for n in range(7)]
    assert sorted(p.name for p in honest.iterdir()) == ["checkpoint", "log.jsonl"]


def test_append_says_how_many_lines_there_are(opened, envelope, tmp_path):
    log = opened(tmp_path)
    assert log.append([]) == 0
    assert log.append([envelope(0)]) == 1
    assert log.append([envelope(1), envelope(2)]) == 3


def test_one_envelope_is_logged_once(honest, opened, envelope):
    before = {p.name: p.read_bytes() for p in honest.iterdir()}
    assert opened(honest).append([envelope(2), envelope(2)]) == 7
    assert {p.name: p.read_bytes() for p in honest.iterdir()} == before
    assert opened(honest).append([envelope(8), envelope(8)]) == 8


def test_the_same_envelopes_give_the_same_bytes(honest, opened, envelope, tmp_path):
    (tmp_path / "again").mkdir()
    opened(tmp_path / "again").append([envelope(n) for n in range(7)])
    for name in ("log.jsonl", "checkpoint"):
        assert (tmp_path / "again" / name).read_bytes() == (honest / name).read_bytes()


def test_a_folder_without_a_log_holds_nothing(opened, tmp_path):
    assert opened(tmp_path, owner=False).read() == []
    assert opened(tmp_path, owner=False).find("0" * 64, INVENTORY) is None
    assert not list(tmp_path.iterdir()), "reading must not write"
    with pytest.raises(NotFound, match="no evidence log"):
        opened(tmp_path, owner=False).checkpoint()


def test_only_the_trusted_key_appends(honest, opened, room, keys, envelope):
    with pytest.raises(StoreError, match="without its private key"):
        opened(honest, owner=False).append([envelope(9)])
    with pytest.raises(VerificationFailed, match="private key is"):
        EvidenceLog(honest, origin=ORIGIN, public_keys=keys, signer=load_signer(room / "foreign", "log"))
    with pytest.raises(NotFound, match="'log'"):
        EvidenceLog(honest, origin=ORIGIN, public_keys={})


@pytest.mark.parametrize("raw", [b"", b"{}", b"not json", b"\n"])
def test_what_is_no_envelope_is_not_appended(honest, opened, envelope, raw):
    before = (honest / "log.jsonl").read_bytes()
    with pytest.raises(VerificationFailed, match="Envelope 2 of 2"):
        opened(honest).append([envelope(9), raw])
    assert (honest / "log.jsonl").read_bytes() == before


def test_find_gives_the_newest_of_the_kind_and_gate(honest, opened, room, keys, envelope):
    subject = Subject.of("checkpoints/lane", "9" * 64)
    runner = load_signer(room / "private", "runner")
    first, second, other = (
        sign(gate_result(subject, gate=gate, result="FAILED", criteria=()), runner) for gate in ("a", "b", "c")
    )
    log = opened(honest)
    log.append([first, second])
    assert log.about("9" * 64) == [first, second]
    assert log.find("9" * 64, TEST_RESULT) == second
    assert log.find("9" * 64, TEST_RESULT, gate="a") == first
    assert log.find("9" * 64, TEST_RESULT, gate="c") is None
    assert log.find("9" * 64, INVENTORY) is None
    log.append([other])
    assert log.find("9" * 64, TEST_RESULT) == other
    found = log.find(manifest(3).version, INVENTORY)
    assert found == envelope(3)
    assert open_envelope(found, keys, Policy.default()).role == "logger"


# attacks by whoever can write to the folder


def drop(folder):
    lines = lines_of(folder)
    (folder / "log.jsonl").write_bytes(b"".join(lines[:2] + lines[3:]))


def drop_the_last(folder):
    (folder / "log.jsonl").write_bytes(b"".join(lines_of(folder)[:-1]))


def edit(folder):
    lines = lines_of(folder)
    said = json.loads(lines[2])
    said["payload"] = base64.b64encode(base64.b64decode(said["payload"]).replace(b"d2", b"dX")).decode()
    (folder / "log.jsonl").write_bytes(b"".join([*lines[:2], rfc8785.dumps(said) + b"\n", *lines[3:]]))


def reorder(folder):
    lines = lines_of(folder)
    (folder / "log.jsonl").write_bytes(b"".join([lines[1], lines[0], *lines[2:]]))


def duplicate(folder):
    lines = lines_of(folder)
    (folder / "log.jsonl").write_bytes(b"".join([*lines[:3], lines[1], *lines[3:]]))


def cut_half_a_line(folder):
    raw = (folder / "log.jsonl").read_bytes()
    (folder / "log.jsonl").write_bytes(raw[: -len(lines_of(folder)[-1]) // 2])


def respell(folder):
    lines = lines_of(folder)
    (folder / "log.jsonl").write_bytes(b"".join([*lines[:2], lines[2].replace(b'":', b'": '), *lines[3:]]))


def remove_the_log(folder):
    (folder / "log.jsonl").unlink()


def empty_the_log(folder):
    (folder / "log.jsonl").write_bytes(b"")


def remove_the_checkpoint(folder):
    (folder / "checkpoint").unlink()


def edit_the_checkpoint(folder):
    (folder / "checkpoint").write_text((folder / "checkpoint").read_text().replace("\n7\n", "\n6\n"))


def drop_and_edit_the_checkpoint(folder):
    drop_the_last(folder)
    root = base64.b64encode(merkle_root(line[:-1] for line in lines_of(folder))).decode()
    note = (folder / "checkpoint").read_text().split("\n")
    (folder / "checkpoint").write_text("\n".join([note[0], "6", root, *note[3:]]))


ATTACKS = [
    (drop, r"log\.jsonl has 6 full lines, its checkpoint covers 7"),
    (drop_the_last, r"log\.jsonl has 6 full lines, its checkpoint covers 7"),
    (edit, r"log\.jsonl has root .* over 7 lines.*one was exchanged"),
    (reorder, r"log\.jsonl has root .* over 7 lines.*moved"),
    (duplicate, r"log\.jsonl has root"),
    (cut_half_a_line, r"log\.jsonl has [0-6] full lines"),
    (respell, r"log\.jsonl has root .*log\.jsonl line 3 is not in canonical form"),
    (remove_the_log, r"log\.jsonl is missing"),
    (empty_the_log, r"log\.jsonl has 0 full lines"),
    (remove_the_checkpoint, r"checkpoint is missing"),
    (edit_the_checkpoint, r"checkpoint is not signed by the trusted key"),
    (drop_and_edit_the_checkpoint, r"checkpoint is not signed by the trusted key"),
]


@pytest.mark.parametrize(("attack", "names"), ATTACKS, ids=[attack.__name__ for attack, _ in ATTACKS])
def test_an_attack_is_seen_by_readers_and_nothing_is_signed_on_top_of_it(honest, opened, envelope, attack, names):
    attack(honest)
    after = {p.name: p.read_bytes() for p in honest.iterdir()}
    for use in (
        lambda: opened(honest, owner=False).read(),
        lambda: opened(honest).read(),
        lambda: opened(honest).append([envelope(9)]),
        lambda: opened(honest, owner=False).find("0" * 64, INVENTORY),
    ):
        with pytest.raises(VerificationFailed, match=names):
            use()
    assert {p.name: p.read_bytes() for p in honest.iterdir()} == after


def test_a_checkpoint_by_a_foreign_key_or_under_another_name_is_refused(honest, opened, room):
    body = Checkpoint(ORIGIN, 7, merkle_root(line[:-1] for line in lines_of(honest)))
    own = load_signer(room / "private", "log")
    for note in (
        body.sign(load_signer(room / "foreign", "log")),
        body.sign(load_signer(room / "private", "runner")),
        sign_note(body.body, "another/log", own),
        Checkpoint("another/log", body.size, body.root).sign(own),
        sign_note(body.body.replace(ORIGIN, "another/log"), ORIGIN, own),
        sign_note(body.body + "extension\n", ORIGIN, own),
        sign_note(body.body.replace("\n7\n", "\n07\n"), ORIGIN, own),
        body.sign(own) + "\N{EM DASH} other AAAA\n",
        "",
        "\n\n",
    ):
        (honest / "checkpoint").write_text(note)
        with pytest.raises(VerificationFailed, match="checkpoint"):
            opened(honest, owner=False).read()
    (honest / "checkpoint").write_text(body.sign(own))
    assert len(opened(honest, owner=False).read()) == 7


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_flipped_bit_is_seen(room, keys, envelope, tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "flipped"
    if not folder.exists():
        folder.mkdir()
        log = EvidenceLog(folder, origin=ORIGIN, public_keys=keys, signer=load_signer(room / "private", "log"))
        log.append([envelope(n) for n in range(5)])
    path = folder / data.draw(st.sampled_from(["log.jsonl", "checkpoint"]))
    whole = path.read_bytes()
    position = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[position] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(changed)
    try:
        with pytest.raises(VerificationFailed, match=r"log\.jsonl|checkpoint"):
            EvidenceLog(folder, origin=ORIGIN, public_keys=keys).read()
    finally:
        path.write_bytes(whole)


def test_a_checkpoint_in_other_bytes_is_refused(honest, opened):
    note = (honest / "checkpoint").read_text()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    # 68 bytes leave two bits of the last letter without a meaning
    other = note[:-3] + alphabet[alphabet.index(note[-3]) ^ 1] + "=\n"
    assert base64.b64decode(other.split(" ")[-1]) == base64.b64decode(note.split(" ")[-1])
    for spelling in (other, note[:-1], note + "\n", note.replace("\n", "\r\n")):
        (honest / "checkpoint").write_bytes(spelling.encode())
        with pytest.raises(VerificationFailed, match="checkpoint"):
            opened(honest, owner=False).read()


# history


def rewritten(folder, opened, envelope):
    """The insider with every key: one line left out, everything signed again."""
    for name in ("log.jsonl", "checkpoint"):
        (folder / name).unlink()
    opened(folder).append([envelope(n) for n in (0, 1, 3, 4, 5, 6, 7)])


def test_a_history_rewritten_with_all_keys_is_seen_against_an_earlier_checkpoint(honest, opened, envelope):
    earlier = opened(honest, owner=False).checkpoint()
    opened(honest).append([envelope(7)])
    opened(honest, owner=False).consistent_with(earlier)
    rewritten(honest, opened, envelope)
    assert len(opened(honest, owner=False).read()) == 7, "the two files alone do not show it"
    with pytest.raises(VerificationFailed, match=r"log\.jsonl was rewritten: its first 7 lines"):
        opened(honest, owner=False).consistent_with(earlier)


def test_a_log_put_back_to_an_earlier_state_is_seen_against_a_later_checkpoint(honest, opened, envelope, tmp_path):
    shutil.copytree(honest, tmp_path / "copy")
    opened(honest).append([envelope(7)])
    later = opened(honest).checkpoint()
    with pytest.raises(VerificationFailed, match="was cut: the earlier checkpoint covers 8 lines, its checkpoint covers 7"):
        opened(tmp_path / "copy", owner=False).consistent_with(later)


def test_every_earlier_checkpoint_is_consistent(opened, envelope, tmp_path):
    log, notes = opened(tmp_path), []
    for number in range(6):
        log.append([envelope(number)])
        notes.append(log.checkpoint())
    for note in notes:
        log.consistent_with(note)
        log.consistent_with(note + "\N{EM DASH} witness.example AAAAAAAA\n")


@pytest.mark.parametrize("note", ["", "x", "\n\n", "\udcff", "a\n1\nAAAA\n\n\N{EM DASH} a AAAA\n"])
def test_what_is_no_checkpoint_of_this_log_shows_nothing(honest, opened, note):
    with pytest.raises(VerificationFailed, match="The earlier checkpoint"):
        opened(honest).consistent_with(note)


def test_with_a_witness_a_log_put_back_is_refused_and_never_signed_on_top_of(opened, envelope, tmp_path):
    folder, witness = tmp_path / "evidence", tmp_path / "log.witness"
    folder.mkdir()
    log = opened(folder, witness=witness)
    log.append([envelope(0), envelope(1)])
    shutil.copytree(folder, tmp_path / "copy")
    log.append([envelope(2)])
    assert witness.read_bytes() == (folder / "checkpoint").read_bytes()

    # an old, validly signed checkpoint, and a line dropped from what it no longer covers
    shutil.copy(tmp_path / "copy" / "checkpoint", folder / "checkpoint")
    (folder / "log.jsonl").write_bytes(envelope(0) + b"\n" + envelope(1) + b"\n" + envelope(5) + b"\n")
    for use in (log.read, lambda: log.append([envelope(3)])):
        with pytest.raises(VerificationFailed, match="was cut: the witness covers 3 lines, its checkpoint covers 2"):
            use()
    rewritten(folder, opened, envelope)
    with pytest.raises(VerificationFailed, match="was rewritten: its first 3 lines"):
        log.append([envelope(8)])
    for path in folder.iterdir():
        path.unlink()
    for use in (log.read, lambda: log.append([envelope(3)])):
        with pytest.raises(VerificationFailed, match="was cut: the witness covers 3 lines"):
            use()


# kills


def test_a_kill_at_any_byte_of_an_append_loses_nothing_that_was_covered(honest, opened, envelope):
    covered = (honest / "log.jsonl").read_bytes()
    note = (honest / "checkpoint").read_bytes()
    added = envelope(7) + b"\n" + envelope(8) + b"\n"
    cuts = [0, 1, len(envelope(7)) - 1, len(envelope(7)), len(envelope(7)) + 1, len(added) - 2, len(added) - 1, len(added)]
    for cut in cuts:
        (honest / "log.jsonl").write_bytes(covered + added[:cut])
        (honest / "checkpoint").write_bytes(note)
        whole = added[:cut].count(b"\n")
        if cut:
            with pytest.raises(VerificationFailed, match=r"log\.jsonl line 8 is past the checkpoint, which covers 7"):
                opened(honest, owner=False).read()
        assert opened(honest).read() == [envelope(n) for n in range(7 + whole)], f"cut at {cut}"
        assert opened(honest).append([envelope(7), envelope(8)]) == 9, "the step that runs again logs each once"
        assert (honest / "log.jsonl").read_bytes() == covered + added


def test_what_is_past_the_checkpoint_and_no_envelope_is_not_adopted(honest, opened, envelope):
    before = (honest / "checkpoint").read_bytes()
    with (honest / "log.jsonl").open("ab") as handle:
        handle.write(b"\0" * 40 + b"\n")
    with pytest.raises(VerificationFailed, match=r"log\.jsonl line 8, past the checkpoint"):
        opened(honest).append([envelope(7)])
    assert (honest / "checkpoint").read_bytes() == before


@pytest.mark.parametrize("begun", [False, True], ids=["first append", "later append"])
def test_sigkill_between_the_lines_and_their_checkpoint_is_recovered_from(opened, envelope, tmp_path, begun):
    if begun:
        opened(tmp_path).append([envelope(0)])

    def killed():
        log = opened(tmp_path)
        publish = log._publish

        def die(checkpoint, signer):
            if checkpoint.size == 0:
                publish(checkpoint, signer)
            else:
                os.kill(os.getpid(), signal.SIGKILL)

        log._publish = die
        log.append([envelope(1), envelope(2)])

    victim = multiprocessing.get_context("fork").Process(target=killed)
    victim.start()
    victim.join(60)
    assert victim.exitcode == -signal.SIGKILL
    assert Checkpoint.open((tmp_path / "checkpoint").read_bytes(), ORIGIN, opened(tmp_path)._key, where="").size == int(begun)
    expected = [envelope(n) for n in ((0, 1, 2) if begun else (1, 2))]
    assert opened(tmp_path).append([envelope(1), envelope(2)]) == len(expected)
    assert opened(tmp_path, owner=False).read() == expected


def test_processes_that_append_at_once_lose_nothing(opened, envelope, tmp_path):
    every = {worker: [envelope(100 + 10 * worker + n) for n in range(10)] for worker in range(4)}
    context = multiprocessing.get_context("fork")
    start = context.Barrier(4)

    def one(worker):
        log = opened(tmp_path, witness=tmp_path.with_name("witness"))
        start.wait()
        for raw in every[worker]:
            log.append([raw])
            assert raw in log.read()

    workers = [context.Process(target=one, args=(worker,)) for worker in every]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * 4
    found = opened(tmp_path, owner=False).read()
    assert len(found) == 40
    for raws in every.values():
        assert [raw for raw in found if raw in raws] == raws, "each process's own order is kept"


def test_a_folder_that_cannot_be_written_says_so(opened, envelope, tmp_path):
    with pytest.raises((StoreError, NotFound), match="evidence log"):
        opened(tmp_path / "absent").append([envelope(0)])


# the note format, against the example in the documentation of Go's golang.org/x/mod/sumdb/note


def test_a_note_signed_by_another_implementation_opens():
    name, _, key = ["PeterNeumann", "c74f20a3", "ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"]
    raw = base64.b64decode(key)
    text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    signature = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    note = f"{text}\n\N{EM DASH} {name} {signature}\n"
    assert raw[:1] == b"\x01"
    assert hashlib.sha256(name.encode() + b"\n" + raw).hexdigest()[:8] == "c74f20a3"
    assert open_note(note.encode(), name, PublicKey(raw[1:]), where="note") == text
    with pytest.raises(VerificationFailed, match="not signed by the trusted key"):
        open_note(note.replace("answer", "Answer").encode(), name, PublicKey(raw[1:]), where="note")


def test_a_checkpoint_has_the_lines_that_c2sp_asks_for(honest, opened):
    note = opened(honest).checkpoint()
    root = base64.b64encode(merkle_root(line[:-1] for line in lines_of(honest))).decode()
    assert re.fullmatch(rf"drivelake/evidence\n7\n{re.escape(root)}\n\n\N{{EM DASH}} drivelake/evidence [A-Za-z0-9+/]+=*\n", note)
