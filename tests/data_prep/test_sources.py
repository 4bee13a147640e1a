from pathlib import Path

import pytest

from data_prep.sources import open_source
from data_prep.sources.folder import FolderSource
from data_prep.sources.synthetic import SyntheticSource
from data_prep.sources.voxceleb2 import VoxCeleb2Source


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def test_all_videos_of_a_folder_however_deep(tmp_path):
    touch(
        tmp_path,
        "b.MOV",
        "id1/v1/1.mp4",
        "id1/v2/2.mkv",
        "id2/ünï cöde.mpg",
        "notes.txt",
        ".hidden.mp4",
        ".x/y.mp4",
    )
    files = FolderSource(folder=tmp_path, licence="CC0").files()
    assert [(Path(file.path).name, file.identity) for file in files] == [
        ("b.MOV", "b"),
        ("1.mp4", "id1"),
        ("2.mkv", "id1"),
        ("ünï cöde.mpg", "id2"),
    ]
    assert {(file.source, file.licence) for file in files} == {(tmp_path.name, "CC0")}


def test_links_that_lead_back_are_followed_once(tmp_path):
    touch(tmp_path, "a/1.mp4", "b/2.mp4")
    for number in range(3):
        (tmp_path / "a" / f"back{number}").symlink_to(tmp_path)
    files = FolderSource(folder=tmp_path).files()
    assert [Path(file.path).name for file in files] == ["1.mp4", "2.mp4"]


def test_identity_from_a_pattern(tmp_path):
    touch(tmp_path, "woman_a_1.mp4", "woman_a_2.mp4", "man_b.mp4")
    for pattern in ("^([a-z]+_[a-z])", "(?P<identity>^[a-z]+_[a-z])(_[0-9])?"):
        files = FolderSource(folder=tmp_path, identity_pattern=pattern).files()
        assert [file.identity for file in files] == ["man_b", "woman_a", "woman_a"]


def test_a_single_file(tmp_path):
    touch(tmp_path, "me.mp4", "other.mp4")
    (file,) = FolderSource(folder=tmp_path / "me.mp4").files()
    assert (file.path, file.identity) == (str(tmp_path / "me.mp4"), "me")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "is not a regular expression"),
        ("^x", "needs a group"),
        ("^(id[0-9]+)", r"captures no identity in 'me\.mp4'"),
    ],
)
def test_patterns_that_cannot_work(tmp_path, pattern, message):
    touch(tmp_path, "me.mp4")
    with pytest.raises(ValueError, match=message):
        FolderSource(folder=tmp_path, identity_pattern=pattern).files()


def test_no_folder_and_no_videos(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no footage at .*nowhere"):
        FolderSource(folder=tmp_path / "nowhere").files()
    with pytest.raises(ValueError, match="contains no video files"):
        FolderSource(folder=tmp_path).files()


VOX = [
    "dev/mp4/id00012/21Uxsk56VDQ/00001.mp4",
    "dev/mp4/id00012/21Uxsk56VDQ/00002.mp4",
    "dev/mp4/id00015/JF-4trZX8jA/00007.mp4",
    "test/mp4/id00017/01dfn2spqyE/00001.mp4",
]


def by_identity(files):
    return {file.identity: file.split for file in files}


def test_voxceleb2_keeps_its_own_test_set(tmp_path):
    touch(tmp_path, *VOX, "dev/txt/id00012/21Uxsk56VDQ/00001.txt", "trailer.mp4")
    source = open_source(f"voxceleb2:{tmp_path}", render_folder=tmp_path)
    files = source.files()
    assert isinstance(source, VoxCeleb2Source)
    assert len(files) == 4
    assert {file.source for file in files} == {"voxceleb2"}
    assert by_identity(files) == {"id00012": None, "id00015": None, "id00017": "test"}
    # No one from the development set is drawn into the test split.
    assert not any(file.may_test for file in files)


def test_voxceleb2_without_a_known_set_draws_its_test_people(tmp_path):
    touch(tmp_path, "id00012/21Uxsk56VDQ/00001.mp4", "id00015/JF-4trZX8jA/00007.mp4")
    files = VoxCeleb2Source(folder=tmp_path).files()
    assert {file.split for file in files} == {None}
    assert all(file.may_test for file in files)


def test_voxceleb2s_test_set_alone_is_still_its_test_set(tmp_path):
    touch(tmp_path, *VOX)
    for root in ("test", "test/mp4"):
        assert by_identity(VoxCeleb2Source(folder=tmp_path / root).files()) == {"id00017": "test"}
    assert set(by_identity(VoxCeleb2Source(folder=tmp_path / "dev/mp4").files()).values()) == {None}


def test_voxceleb2s_metadata_says_more_than_folders(tmp_path):
    touch(tmp_path, *VOX)
    (tmp_path / "vox2_meta.csv").write_text(
        "VoxCeleb2 ID ,VGGFace2 ID ,Gender ,Set \nid00012 ,n000012 ,m ,dev \nid00015 ,n000015 ,f ,test \n"
    )
    files = VoxCeleb2Source(folder=tmp_path).files()
    assert by_identity(files) == {"id00012": None, "id00015": "test", "id00017": None}
    (tmp_path / "vox2_meta.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="not VoxCeleb2's metadata"):
        VoxCeleb2Source(folder=tmp_path).files()


def test_voxceleb2s_face_tracks_say_how_the_lips_lie_to_the_sound(tmp_path):
    touch(tmp_path, *VOX)
    track = tmp_path / "dev/txt/id00012/21Uxsk56VDQ/00001.txt"
    track.parent.mkdir(parents=True)
    track.write_text(
        "Identity  : \tid00012\nReference : \t21Uxsk56VDQ\nOffset    : \t-2\nFV Conf   : \t16.147\t(1)\n"
        "ASD Conf  : \t4.674\n\nFRAME \tX \tY \tW \tH \n000245 \t0.295 \t0.165 \t0.194 \t0.346 \n"
    )
    for root in (tmp_path, tmp_path / "dev", tmp_path / "dev/mp4"):
        first, second, *_ = VoxCeleb2Source(folder=root).files()
        assert (first.sync_offset, first.sync_confidence) == (-2, 4.674)
        assert (second.sync_offset, second.sync_confidence) == (None, None)


@pytest.mark.parametrize("said", ["-", "1e400", "nan", "+", ""])
def test_a_face_track_that_says_nothing_says_nothing(tmp_path, said):
    touch(tmp_path, "dev/mp4/id00012/21Uxsk56VDQ/00001.mp4")
    track = tmp_path / "dev" / "txt" / "id00012" / "21Uxsk56VDQ" / "00001.txt"
    track.parent.mkdir(parents=True)
    track.write_text(f"Identity  : \tid00012\nOffset    : \t{said}\nASD Conf  : \t5.5\n")
    (file,) = VoxCeleb2Source(folder=tmp_path).files()
    assert (file.sync_offset, file.sync_confidence) == (None, 5.5)


def test_links_keep_the_names_of_their_collection(tmp_path):
    """As data-versioning tools keep large files: a tree of links into a store of hashes."""
    store = tmp_path / "store"
    store.mkdir()
    (store / "3f9a.mp4").write_bytes(b"x")
    utterance = tmp_path / "vox" / "dev" / "mp4" / "id00012" / "21Uxsk56VDQ" / "00001.mp4"
    utterance.parent.mkdir(parents=True)
    utterance.symlink_to(store / "3f9a.mp4")
    (file,) = VoxCeleb2Source(folder=tmp_path / "vox").files()
    assert (file.identity, file.path) == ("id00012", str(utterance))
    (tmp_path / "names.csv").write_text("path,identity\ndev/mp4/id00012/21Uxsk56VDQ/00001.mp4,ann\n")
    source = open_source(str(tmp_path / "vox"), render_folder=tmp_path, identities=tmp_path / "names.csv")
    assert [file.identity for file in source.files()] == ["ann"]


def test_another_layout_is_not_voxceleb2(tmp_path):
    touch(tmp_path, "ann/1.mp4")
    with pytest.raises(ValueError, match="idNNNNN/VIDEO/UTTERANCE"):
        VoxCeleb2Source(folder=tmp_path).files()


def test_a_table_names_people_and_splits(tmp_path):
    touch(tmp_path, "1.mp4", "x/2.mp4", "3.mp4")
    table = tmp_path / "people.csv"
    table.write_text("path,identity,split\n1.mp4,ann,test\nx/2.mp4,böb,\n")
    files = open_source(str(tmp_path), render_folder=tmp_path, identities=table, licence="CC0").files()
    assert [(Path(f.path).name, f.identity, f.split, f.licence) for f in files] == [
        ("1.mp4", "ann", "test", "CC0"),
        ("2.mp4", "böb", None, "CC0"),
    ]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("file,identity\n1.mp4,ann\n", ValueError, "no column 'path'"),
        ("path,identity\n9.mp4,ann\n", FileNotFoundError, r"line 2: no video 9\.mp4"),
        ("path,identity\n1.mp4,\n", ValueError, "line 2: path and identity"),
        ("path,identity,split\n1.mp4,ann,holiday\n", ValueError, "line 2: split 'holiday'"),
        (
            "path,identity,split\n1.mp4,ann,test\n2.mp4,ann,train\n",
            ValueError,
            "line 3: ann has another split",
        ),
        ("path,identity\n", ValueError, "lists no files"),
    ],
)
def test_tables_that_cannot_work(tmp_path, text, error, message):
    touch(tmp_path, "1.mp4", "2.mp4")
    (tmp_path / "people.csv").write_text(text)
    source = open_source(str(tmp_path), render_folder=tmp_path, identities=tmp_path / "people.csv")
    with pytest.raises(error, match=message):
        source.files()


def test_cells_of_a_table_are_read_without_the_space_around_them(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4")
    (tmp_path / "people.csv").write_text("path,identity,split\n1.mp4, ann ,test\n2.mp4,ann, test\n")
    source = open_source(str(tmp_path), render_folder=tmp_path, identities=tmp_path / "people.csv")
    assert [(file.identity, file.split) for file in source.files()] == [("ann", "test")] * 2
    (tmp_path / "people.csv").write_bytes("path,identity\n1.mp4,Zo\xeb\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"people\.csv is not valid UTF-8"):
        source.files()


def test_two_ways_to_name_people_are_one_too_many(tmp_path):
    for text in (str(tmp_path), f"voxceleb2:{tmp_path}"):
        with pytest.raises(ValueError, match="identity pattern"):
            open_source(text, render_folder=tmp_path, identity_pattern="(a)", identities=tmp_path / "a.csv")
    with pytest.raises(ValueError, match="has identities of its own"):
        open_source("synthetic:1x1x1", render_folder=tmp_path, identities=tmp_path / "a.csv")


def test_synthetic_text_is_parsed(tmp_path):
    source = open_source("synthetic:8x3x2.5@100", render_folder=tmp_path)
    assert isinstance(source, SyntheticSource)
    assert (source.identities, source.clips_per_identity, source.seconds, source.first_identity) == (
        8,
        3,
        2.5,
        100,
    )


@pytest.mark.parametrize(
    "text", ["synthetic:", "synthetic:3x2", "synthetic:axbxc", "synthetic:0x1x1", "synthetic:1x1x1x1"]
)
def test_other_synthetic_text_is_refused(tmp_path, text):
    with pytest.raises(ValueError, match=r"synthetic:|above 0"):
        open_source(text, render_folder=tmp_path)


def test_synthetic_heads_are_rendered_once(tmp_path, ray_session):
    source = open_source("synthetic:2x1x1@7", render_folder=tmp_path)
    files = source.files()
    assert [file.identity for file in files] == ["synthetic-00007", "synthetic-00008"]
    written = {file.path: Path(file.path).stat().st_mtime_ns for file in files}
    assert open_source("synthetic:2x1x1@7", render_folder=tmp_path).files() == files
    assert {file.path: Path(file.path).stat().st_mtime_ns for file in files} == written
