//! A consumer's half of its session.

use super::*;

fn published(qos: u8, id: u16, dup: bool, payload: &[u8]) -> Published<'_> {
    Published {
        qos,
        dup,
        id,
        topic: b"a/b",
        payload,
    }
}

fn take(inbox: &mut Inbox, message: &Published<'_>) -> (Taken, Option<&'static str>, Vec<u8>) {
    let mut out = Vec::new();
    let (taken, violation) = inbox.take(message, &mut out);
    (taken, violation, out)
}

#[test]
fn every_qos_is_answered_as_it_asks() {
    let mut inbox = Inbox::default();
    inbox.begin(false);
    for (qos, answer) in [
        (0, vec![]),
        (1, vec![kind::PUBACK, 2, 0, 7]),
        (2, vec![kind::PUBREC, 2, 0, 7]),
    ] {
        let message = published(qos, 7, false, b"x");
        assert_eq!(take(&mut inbox, &message), (Taken::Message, None, answer));
    }
    let mut out = Vec::new();
    inbox.release(7, &mut out);
    assert_eq!(out, [kind::PUBCOMP, 2, 0, 7]);
}

#[test]
fn a_qos_2_message_is_shown_once_for_each_packet_id_and_release() {
    let mut inbox = Inbox::default();
    inbox.begin(false);
    let message = published(2, 7, false, b"x");
    let again = published(2, 7, true, b"x");
    assert_eq!(take(&mut inbox, &message).0, Taken::Message);
    inbox.begin(false);
    let (taken, violation, out) = take(&mut inbox, &again);
    assert_eq!((taken, violation, out.len()), (Taken::Known, None, 4));
    let (taken, violation, _) = take(&mut inbox, &again);
    assert!(
        taken == Taken::Known && violation.is_some(),
        "twice on one connection"
    );
    inbox.begin(false);
    let (taken, violation, _) = take(&mut inbox, &message);
    assert!(taken == Taken::Known && violation.is_some(), "without DUP");
    inbox.release(7, &mut Vec::new());
    assert_eq!(
        take(&mut inbox, &message).0,
        Taken::Message,
        "the id is free"
    );
}

#[test]
fn a_packet_id_in_use_is_not_another_messages() {
    let mut inbox = Inbox::default();
    inbox.begin(false);
    take(&mut inbox, &published(2, 7, false, b"x"));
    let (taken, violation, _) = take(&mut inbox, &published(2, 7, false, b"y"));
    assert!(taken == Taken::Message && violation.is_some());
    inbox.begin(true);
    let (taken, violation, _) = take(&mut inbox, &published(2, 7, false, b"z"));
    assert_eq!((taken, violation), (Taken::Message, None), "a new session");
}
