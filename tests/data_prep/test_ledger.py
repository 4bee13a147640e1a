from data_prep.ledger import ClipSummary, Ledger, Record
from data_prep.rejects import Reject


def record(run, *contents):
    return Record(
        run=run,
        fragments=('{"id": 0}',),
        contents=contents,
        clips=(ClipSummary(clip_id="c", identity="ann", split="train", seconds=1.5),),
        rejects=(Reject(path="ü.mp4", reason="no face found", start_s=0.0, end_s=10.0),),
    )


def test_records_come_back_for_their_settings_only(tmp_path):
    uri = str(tmp_path / "clips.lance")
    ledger = Ledger(uri, "settings")
    assert ledger.records() == []
    ledger.add(record("run1", "x", "y"))
    ledger.add(record("run1", "z"))
    assert sorted(Ledger(uri, "settings").records(), key=lambda r: r.contents) == [
        record("run1", "x", "y"),
        record("run1", "z"),
    ]
    assert Ledger(uri, "others").records() == []
    ledger.clear()
    assert list(tmp_path.iterdir()) == []


def test_a_repeated_task_replaces_its_record(tmp_path):
    ledger = Ledger(str(tmp_path / "clips.lance"), "settings")
    ledger.add(record("run1", "x"))
    ledger.add(record("run1", "x"))
    assert ledger.records() == [record("run1", "x")]
    ledger.add(record("run2", "x"))
    assert len(ledger.records()) == 2


def test_a_half_written_record_does_not_count(tmp_path):
    ledger = Ledger(str(tmp_path / "clips.lance"), "settings")
    ledger.add(record("run1", "x"))
    (tmp_path / "clips.lance.ingest" / "settings" / "run1-y.json.part").write_text('{"run": "ru')
    assert len(ledger.records()) == 1
