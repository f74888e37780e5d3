//! When the writer waits for company.

use super::*;

fn tail() -> Tail {
    let position = Position {
        segment: 1,
        salt: 7,
        capacity: 1 << 20,
        offset: FIRST_RECORD,
        marked: 0,
    };
    let options = LogOptions::default();
    Tail::new(&options, position, SegmentInfo::empty(1), BTreeMap::new())
}

fn append(tail: &mut Tail, answers: u64) {
    let mut batch = Appends::new();
    let index = tail.sequence() + 1;
    batch.push(0, index, b"body").expect("a small record");
    batch.owe_answers(answers);
    tail.append(&mut batch);
}

fn batch(tail: &mut Tail, answers: u64) {
    append(tail, answers);
    tail.take().expect("something was appended");
}

#[test]
fn the_writer_waits_for_as_many_answers_as_waited_lately() {
    let mut tail = tail();
    batch(&mut tail, 10);
    batch(&mut tail, 3);
    append(&mut tail, 6);
    assert!(tail.begin_gathering());
    append(&mut tail, 3);
    assert!(!tail.wakes_writer(), "9 of 10");
    append(&mut tail, 1);
    assert!(tail.wakes_writer());
    assert!(!tail.wakes_writer(), "once is enough");
}

#[test]
fn the_writer_waits_for_nothing_when_all_have_come_or_nothing_is_expected() {
    let mut tail = tail();
    assert!(!tail.begin_gathering(), "nothing has come");
    append(&mut tail, 1);
    assert!(!tail.begin_gathering(), "nothing was there before");
    tail.take().expect("a record");
    append(&mut tail, 1);
    assert!(!tail.begin_gathering(), "as many as before");
    append(&mut tail, 0);
    tail.take().expect("two records");
    append(&mut tail, 0);
    assert!(!tail.begin_gathering(), "nobody waits for it");
}

#[test]
fn the_writer_does_not_wait_where_many_share_a_sync_anyway() {
    let mut tail = tail();
    batch(&mut tail, GATHER_ANSWERS_MAX + 1);
    append(&mut tail, 1);
    assert!(!tail.begin_gathering());
}

#[test]
fn what_is_expected_is_forgotten_after_some_batches() {
    let mut tail = tail();
    batch(&mut tail, 10);
    for _ in 0..GATHER_BATCHES {
        batch(&mut tail, 1);
    }
    append(&mut tail, 1);
    assert!(!tail.begin_gathering());
}
