"""data_manifest/ itself, the checks on it, and files by checksum."""

import hashlib
import io
import os
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nibabel as nib
import pandas as pd
import pytest

from sn2nlib.errors import ManifestError
from sn2nlib.provenance import sha256_of
from sn2nlib.scans import manifest, sources
from sn2nlib.scans.sources import Source, SourceUnavailable

MANIFEST = Path(__file__).resolve().parents[2] / "data_manifest"
LISTED = manifest.load_sources(MANIFEST)
CONTENT = b"k-space" * 100


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the manifest to damage."""
    return Path(shutil.copytree(MANIFEST, tmp_path / "data_manifest"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SN2N_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


def source(**changed: object) -> Source:
    entries = {
        "name": "raw", "kind": "url", "file": "raw.dat", "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "size": len(CONTENT), "licence": "MIT", "used_for": "a test", "url": "http://127.0.0.1:9/raw.dat",
    }  # fmt: skip
    return Source(**(entries | changed))  # type: ignore[arg-type]


def replace_line(path: Path, number: int, text: str) -> None:
    """Replace one line; number counts from 1, as the messages do."""
    lines = path.read_text().splitlines()
    lines[number - 1] = text
    path.write_text("\n".join(lines) + "\n")


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


# --- the tables in the repository -----------------------------------------------------------------


def test_cohort_has_the_published_groups_and_summaries() -> None:
    people = manifest.load_participants(MANIFEST)
    digital = people[people["kind"] == "digital"]
    published = pd.read_csv(MANIFEST / "published" / "table1.csv").dropna(subset="age_mean").set_index("set")
    for name, row in published.iterrows():
        group = digital[digital["set"] == ("generalisation" if name == "generalization" else name)]
        assert len(group) == row["n"]
        assert (group["sex"] == "F").sum() == row["female"]
        assert (group["sex"] == "M").sum() == row["male"]
        assert round(group["age"].astype(float).mean()) == row["age_mean"]
        assert round(group["age"].astype(float).std()) == row["age_sd"]
    assert len(digital) == 203
    assert digital["age"].min() >= 18
    assert digital["synthetic"].all()


def test_conditions_are_counted_as_published() -> None:
    people = manifest.load_participants(MANIFEST)
    published = pd.read_csv(MANIFEST / "published" / "table1.csv").dropna(subset="count")
    for sets, group in published.groupby("set"):
        ours = people[people["set"].isin(str(sets).split("+"))]["condition"].value_counts()
        assert ours.to_dict() == dict(zip(group["condition"], group["count"], strict=True))


def test_real_head_claims_nothing_about_the_person() -> None:
    people = manifest.load_participants(MANIFEST).set_index("participant")
    head = people.loc["S1"]
    assert (head["kind"], head["set"], head["synthetic"]) == ("real", "real_head", False)
    assert pd.isna(head["age"]) and pd.isna(head["sex"]) and pd.isna(head["seed"])


@pytest.mark.parametrize("profile", ["smoke", "demo", "paper"])
def test_splits_join_the_participants(profile: str) -> None:
    split = manifest.load_splits(MANIFEST, profile)
    assert split["participant"].is_unique
    assert {"training", "validation", "quantitative"} <= set(split["set"])
    assert (split["set"] == "quantitative").sum() >= 2  # a p-value needs two
    trained = split[split["set"].isin(["training", "validation"])]
    assert (trained["kind"] == "digital").all()


def test_paper_profile_has_everybody() -> None:
    assert len(manifest.load_splits(MANIFEST, "paper")) == len(manifest.load_participants(MANIFEST))


def test_every_source_is_licensed_and_pinned() -> None:
    assert LISTED["S1"].sha256 == "1a480d10e8c07fbca58e069efce2a11d477e180beb43f88bdad825b750055a28"
    for entry in LISTED.values():
        assert "no licence" not in entry.licence.lower()
        if entry.kind == "url":
            assert any(len(part) == 40 for part in entry.url.split("/")), f"{entry.name}: no commit"


def test_installed_packages_hold_the_listed_files(cache: Path) -> None:
    for entry in LISTED.values():
        if entry.kind == "package":
            path = manifest.fetch(entry)
            assert path.name == Path(entry.member).name
            assert path.stat().st_size == entry.size


@pytest.mark.parametrize("name", [key for key, entry in LISTED.items() if entry.kind == "url"])
def test_local_copies_are_the_listed_files(require: Callable[..., Path], name: str) -> None:
    path = require("data", LISTED[name].file)
    assert path.stat().st_size == LISTED[name].size
    assert sha256_of(path) == LISTED[name].sha256


def test_real_head_is_the_listed_file() -> None:
    path = manifest.find(LISTED["S1"])
    if path is None:
        pytest.skip("the real head S1 is not in the data folders (SN2N_DATA)")
    image = nib.load(path)
    assert image.shape == (256, 256, 256)


# --- what the checks catch ------------------------------------------------------------------------


def test_all_bad_rows_are_named_at_once(folder: Path) -> None:
    path = folder / "participants.csv"
    replace_line(path, 3, "D002,digital,training,12,F,tumor,1002,true")
    replace_line(path, 5, "D004,phantom,trainingg,50,X,tumor,1004,yes")
    replace_line(path, 9, "D001,digital,training,50,F,tumor,1008,true")
    with pytest.raises(ManifestError) as caught:
        manifest.load_participants(folder)
    message = str(caught.value)
    for expected in (
        "participants.csv: ",
        "line 3: age = '12', allowed: whole years, 18 to 119",
        "line 5: kind = 'phantom', allowed: one of 'digital', 'real'",
        "line 5: set = 'trainingg', allowed: one of 'training'",
        "line 5: sex = 'X', allowed: 'F', 'M'",
        "line 5: synthetic = 'yes', allowed: one of 'true', 'false'",
        "line 2: participant = 'D001', allowed: every value once",
        "line 9: participant = 'D001', allowed: every value once",
    ):
        assert expected in message
    assert len(message.splitlines()) >= 9


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("D900,digital,training,50,F,tumor,,true", "line 206: seed = '', allowed: a whole number"),
        ("D900,digital,training,50,F,tumor,1001,true", "line 206: seed = '1001', allowed: a number of"),
        ("D900,digital,training,50,F,tumor,9,false", "line 206: synthetic = 'false', allowed: 'true'"),
        ("D900,digital,real_head,50,F,tumor,9,true", "line 206: set = 'real_head', allowed: 'real_h"),
        ("S2,real,training,,,not stated,,false", "line 206: set = 'training', allowed: 'real_head' for real"),
        ("D900,digital,training,50,F,,9,true", "line 206: condition = '', allowed: words"),
    ],
)
def test_rows_that_contradict_themselves(folder: Path, row: str, message: str) -> None:
    append(folder / "participants.csv", row + "\n")
    with pytest.raises(ManifestError, match=message):
        manifest.load_participants(folder)


def test_participant_in_two_splits(folder: Path) -> None:
    lines = (folder / "splits.csv").read_text().splitlines()
    append(folder / "splits.csv", "demo,D001,quantitative\n")
    places = rf"line \d+ \('training'\), line {len(lines) + 1} \('quantitative'\)"
    with pytest.raises(ManifestError, match=rf"'D001' is in more than one split of profile 'demo': {places}"):
        manifest.load_splits(folder, "demo")
    with pytest.raises(ManifestError, match="D001"):
        manifest.load_splits(folder, "smoke")  # the file is checked whole, whichever profile is asked for


def test_split_rows_that_do_not_fit_the_participants(folder: Path) -> None:
    append(folder / "splits.csv", "extra,D999,training\nextra,D001,validation\nextra,D002,elsewhere\n")
    with pytest.raises(ManifestError) as caught:
        manifest.load_splits(folder, "demo")
    assert "participant = 'D999', allowed: a participant of participants.csv" in str(caught.value)
    assert "set = 'validation', allowed: the set of participants.csv" in str(caught.value)
    assert "set = 'elsewhere', allowed: one of 'training'" in str(caught.value)


def test_marks_of_known_participants_each_plane_once(folder: Path) -> None:
    marks = manifest.load_marks(MANIFEST)
    assert {plane for _, plane in marks} == {"coronal", "axial"}
    tested = manifest.load_splits(MANIFEST, "demo")
    assert {name for name, _ in marks} == set(tested.loc[tested["set"] == "generalisation", "participant"])
    (folder / "marks.csv").write_text("participant,plane,site\nD186,axial,BA-1\nD999,oblique,BA-1\nD186,axial,BA-2\n")
    with pytest.raises(ManifestError) as caught:
        manifest.load_marks(folder)
    told = str(caught.value)
    assert "participant = 'D999'" in told and "plane = 'oblique'" in told
    assert "line 4: plane = 'axial', allowed: each plane of a participant once" in told


def test_unknown_profile_names_the_listed_ones(folder: Path) -> None:
    with pytest.raises(ManifestError, match="for profile 'lab'; listed profiles: smoke, demo, paper"):
        manifest.load_splits(folder, "lab")


def test_columns_must_be_the_listed_ones(folder: Path) -> None:
    replace_line(folder / "splits.csv", 1, "profile,who,set")
    with pytest.raises(ManifestError, match="columns must be profile,participant,set, not profile,who,set"):
        manifest.load_splits(folder, "demo")


def test_missing_file_is_a_manifest_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"participants\.csv cannot be read"):
        manifest.load_participants(tmp_path)


def test_all_bad_sources_are_named_at_once(folder: Path) -> None:
    append(
        folder / "sources.yaml",
        "- {name: a, kind: url, file: ../x, sha256: 12, size: 0, licence: '', used_for: y,\n"
        "   url: 'http://h/a b'}\n"
        "- {name: b, kind: pypi, file: b, sha256: 34, size: 1, licence: MIT, used_for: y, colour: red}\n",
    )
    with pytest.raises(ManifestError) as caught:
        manifest.load_sources(folder)
    for expected in (
        "entry 13: file = '../x', allowed: a plain file name",
        "entry 13: sha256 = '12', allowed: 64 hex digits",
        "entry 13: size = '0', allowed: bytes",
        "entry 13: licence = '', allowed: the licence",
        "entry 13: url = 'http://h/a b', allowed: an http(s) address, percent-encoded",
        "entry 14: unknown key 'colour'",
        "entry 14: package = '', allowed: a value, for kinds 'package' and 'pypi'",
    ):
        assert expected in str(caught.value)


def test_manifest_folder_is_found_from_below(folder: Path) -> None:
    below = folder.parent / "notebooks" / "deep"
    below.mkdir(parents=True)
    assert manifest.manifest_folder(below) == folder


# --- files by checksum ----------------------------------------------------------------------------


def test_file_is_found_by_name_else_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    monkeypatch.setenv("SN2N_DATA", os.pathsep.join([str(first), str(second), str(tmp_path / "absent")]))
    assert manifest.find(source()) is None
    (first / "raw.dat").write_bytes(CONTENT[::-1])  # right name and size, wrong content
    (second / "renamed.bin").write_bytes(CONTENT)
    assert manifest.fetch(source()) == second / "renamed.bin"
    (second / "raw.dat").write_bytes(CONTENT)
    assert manifest.fetch(source()) == second / "raw.dat"


def test_without_the_variable_the_cache_folder_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SN2N_DATA", raising=False)
    (only,) = sources.data_folders()
    assert only.name == "sn2n"


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A file server on this machine that serves raw.dat."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    served = tmp_path / "served"
    served.mkdir()
    (served / "raw.dat").write_bytes(CONTENT)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            """Nothing on stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=served))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/raw.dat"
    server.shutdown()
    server.server_close()
    thread.join()


def test_url_is_downloaded_once_into_the_first_folder(cache: Path, address: str) -> None:
    path = manifest.fetch(source(url=address))
    assert path == cache / "raw.dat"
    assert path.read_bytes() == CONTENT
    assert manifest.fetch(source(url="http://127.0.0.1:9/gone")) == path  # on disk: nobody is asked


def test_wrong_checksum_leaves_nothing(cache: Path, address: str) -> None:
    with pytest.raises(SourceUnavailable, match=r"raw: http://127.* has sha256 .* the manifest lists 0000"):
        manifest.fetch(source(url=address, sha256="0" * 64))
    assert list(cache.iterdir()) == []


def test_unreachable_address_leaves_nothing(cache: Path, address: str) -> None:
    with pytest.raises(SourceUnavailable, match=r"raw: .* cannot be fetched .*404"):
        manifest.fetch(source(url=address + ".missing"))
    assert list(cache.iterdir()) == []


def test_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("SN2N_DATA", str(tmp_path / "file" / "below"))
    with pytest.raises(SourceUnavailable, match=r"raw\.dat cannot be written .* first in SN2N_DATA"):
        manifest.fetch(source(url=address))


def test_one_that_cannot_be_had_does_not_keep_the_others(cache: Path, address: str) -> None:
    listed = {name: source(name=name, file=f"{name}.dat", url=url, sha256=digest) for name, url, digest in (
        ("gone", address + ".missing", "0" * 64), ("raw", address, hashlib.sha256(CONTENT).hexdigest()),
        ("other", address, "1" * 64),
    )}  # fmt: skip
    chosen = manifest.choose_sources(listed, everything=True)
    had: list[tuple[Source, Path]] = []
    with pytest.raises(SourceUnavailable, match=r"(?s)gone: .* cannot be fetched.*other: .* has sha256"):
        for entry in manifest.fetch_each(chosen):
            had.append(entry)  # one by one: what came before the error counts
    assert had == [(listed["raw"], cache / "raw.dat")]
    assert [path.name for path in cache.iterdir()] == ["raw.dat"]
    assert manifest.locate(listed["raw"]) == cache / "raw.dat" and manifest.locate(listed["gone"]) is None


def test_sources_are_chosen_by_name_each_once() -> None:
    assert [entry.name for entry in manifest.choose_sources(LISTED, ["S1", "S1", "harvard-oxford"])] == [
        "S1", "harvard-oxford"
    ]  # fmt: skip
    assert manifest.choose_sources(LISTED) == [] and len(manifest.choose_sources(LISTED, everything=True)) == 12
    with pytest.raises(ManifestError, match="no source is called S2, S3; listed are icbm152-t1, "):
        manifest.choose_sources(LISTED, ["S1", "S2", "S3"])


def test_nothing_without_a_licence_is_listed_or_named() -> None:
    text = "".join((MANIFEST / name).read_text() for name in ("sources.yaml", "howto.yaml", "README.md"))
    assert not any(word in text for word in ("gadgetron", "noise34ch", "noise16ch", "GadgetronOnlineClass"))
    for name in ("pulseq-brain-16ch", "pulseq-phantom-16ch", "twixtools-phantom-2ch", "mripy-brain-8ch"):
        assert LISTED[name].licence == "MIT"


def test_sets_to_get_by_hand(folder: Path) -> None:
    entries = manifest.load_howto(MANIFEST)
    assert {"calgary-campinas", "mridata-stanford-3d-fse", "m4raw"} <= {entry["name"] for entry in entries}
    append(folder / "howto.yaml", "- {name: a, layout: nowhere}\n")
    with pytest.raises(ManifestError) as caught:
        manifest.load_howto(folder)
    assert "entry 4: the keys must be name, title, where" in str(caught.value)
    assert "entry 4: layout = 'nowhere', allowed: one of ahead-7t, " in str(caught.value)
    (folder / "howto.yaml").write_text("just words")
    with pytest.raises(ManifestError, match="must be a list of entries"):
        manifest.load_howto(folder)


def sdist(folder: Path, member: str, content: bytes) -> Path:
    path = folder / "pack-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo(f"pack-1.0/{member}")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return path


def test_member_of_a_source_distribution(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = partial(sdist, member="store/raw.dat", content=CONTENT)
    monkeypatch.setattr(sources, "_pip_download", lambda entry, folder: archive(folder))
    wanted = {"kind": "pypi", "package": "pack", "version": "1.0", "url": ""}
    with pytest.raises(SourceUnavailable, match=r"raw: pack-1\.0\.tar\.gz has no file raw\.dat"):
        manifest.fetch(source(member="raw.dat", **wanted))
    assert list(cache.iterdir()) == []
    path = manifest.fetch(source(member="store/raw.dat", **wanted))
    assert path.read_bytes() == CONTENT
    assert list(cache.iterdir()) == [path]


def test_pip_that_fails_is_told_in_one_sentence(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failed:
        returncode = 1
        stderr = "a long story\nERROR: No matching distribution found"

    monkeypatch.setattr(sources.subprocess, "run", lambda *given, **options: Failed())
    wanted = source(kind="pypi", package="pack", version="1.0", member="m", url="")
    with pytest.raises(SourceUnavailable, match=r"download pack 1\.0 \(ERROR: No matching.*as raw\.dat into"):
        manifest.fetch(wanted)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"package": "no_such_package"}, "is not installed; pip install no_such_package==1"),
        ({"package": "sn2nlib", "member": "nothing.nii"}, "sn2nlib .* has no nothing.nii"),
        ({"package": "sn2nlib", "member": "errors.py"}, "errors.py of sn2nlib .* differs from that of 1"),
    ],
)
def test_package_file_that_is_not_there(cache: Path, changed: dict[str, str], message: str) -> None:
    with pytest.raises(SourceUnavailable, match=message):
        manifest.fetch(source(**({"kind": "package", "version": "1", "url": ""} | changed)))
