//! A connection's life, byte by byte, without a socket.

use super::*;

const ANSWER_US: u64 = BACKEND_ANSWER_MAX.as_micros() as u64;

fn client(filter: Option<&str>) -> Client {
    let filter = filter.map(|filter| (filter.to_owned(), 1));
    let mut client = Client::new("7-c-0".to_owned(), filter, (3, 2), Dice::new(1, 1));
    assert_eq!(client.due(5, &mut Vec::new()), Some(Order::Dial(1)));
    client.dialed(5, &mut Vec::new());
    client
}

fn hear(client: &mut Client, first: u8, body: &[u8], out: &mut Vec<u8>) -> Result<Heard, End> {
    let len = body.len() + 2;
    client.hear(&Packet { first, body, len }, 10, out)
}

fn connack(client: &mut Client, present: bool) -> Result<Heard, End> {
    let properties = [3, 0x21, 0, 9];
    let body = [&[u8::from(present), 0][..], &properties].concat();
    hear(client, kind::CONNACK, &body, &mut Vec::new())
}

fn connected(session: Continued) -> Heard {
    Heard::Connected {
        receive_max: 9,
        session,
    }
}

#[test]
fn a_sender_is_up_with_its_connack_and_a_consumer_with_its_suback() {
    let mut sender = client(None);
    assert_eq!(
        connack(&mut sender, false),
        Ok(connected(Continued::AsPromised))
    );
    assert!(sender.is_up());
    let mut consumer = client(Some("a/#"));
    connack(&mut consumer, false).expect("accepted");
    assert!(!consumer.is_up());
    assert!(consumer.lost(20), "a connection that stood");
    consumer.dialed(30, &mut Vec::new());
    connack(&mut consumer, true).expect("accepted");
    let suback = hear(&mut consumer, kind::SUBACK, &[0, 1, 0, 1], &mut Vec::new());
    assert_eq!(suback, Ok(Heard::Little));
    assert!(consumer.is_up());
}

#[test]
fn a_session_that_stands_is_not_subscribed_again_and_one_that_is_gone_is() {
    let mut consumer = client(Some("a/#"));
    connack(&mut consumer, false).expect("accepted");
    hear(&mut consumer, kind::SUBACK, &[0, 1, 0, 1], &mut Vec::new()).expect("granted");
    assert!(consumer.lost(20));
    consumer.dialed(30, &mut Vec::new());
    assert_eq!(
        connack(&mut consumer, true),
        Ok(connected(Continued::AsPromised))
    );
    assert!(consumer.is_up());
    consumer.lost(40);
    consumer.dialed(50, &mut Vec::new());
    assert_eq!(
        connack(&mut consumer, false),
        Ok(connected(Continued::Lost))
    );
    assert!(!consumer.is_up(), "it subscribes first");
}

#[test]
fn a_session_that_nobody_made_is_unexpected() {
    let mut sender = client(None);
    assert_eq!(
        connack(&mut sender, true),
        Ok(connected(Continued::Unexpected))
    );
    let mut sender = client(None);
    assert!(!sender.lost(20), "it was not up");
    sender.dialed(30, &mut Vec::new());
    let maybe = connack(&mut sender, true);
    assert_eq!(
        maybe,
        Ok(connected(Continued::AsPromised)),
        "the first CONNECT may have come through"
    );
}

#[test]
fn waits_grow_have_jitter_and_lead_to_the_next_address() {
    let (least, most) = (
        BACKEND_BACKOFF_MIN.as_micros() as u64,
        BACKEND_BACKOFF_MAX.as_micros() as u64,
    );
    let mut client = client(None);
    let mut longest = 0;
    for failure in 0..200_usize {
        client.lost(1_000);
        let Stage::Waiting(until) = client.stage else {
            panic!("it waits")
        };
        let wait = until - 1_000;
        assert!(wait <= most && (failure > 0 || wait <= least));
        longest = longest.max(wait);
        assert_eq!(
            client.due(until - 1, &mut Vec::new()).is_none(),
            wait > 0 || until > 1_000
        );
        let dial = client.due(until, &mut Vec::new());
        assert_eq!(dial, Some(Order::Dial(failure % 2)));
        client.dialed(until, &mut Vec::new());
    }
    assert!(longest > most / 10 * 9);
}

#[test]
fn silence_is_noticed() {
    let mut out = Vec::new();
    let mut consumer = client(Some("a/#"));
    assert_eq!(consumer.due(5 + ANSWER_US - 1, &mut out), None);
    let lose = |client: &mut Client, at| client.due(at, &mut Vec::new());
    assert!(matches!(
        lose(&mut consumer, 5 + ANSWER_US),
        Some(Order::Lose(_))
    ));
    connack(&mut consumer, false).expect("accepted");
    assert!(matches!(
        lose(&mut consumer, 10 + ANSWER_US),
        Some(Order::Lose(_))
    ));
    hear(&mut consumer, kind::SUBACK, &[0, 1, 0, 1], &mut out).expect("granted");
    let half_us = u64::from(KEEP_ALIVE_S) * 500_000;
    assert_eq!(consumer.due(4 + half_us, &mut out), None);
    assert_eq!(consumer.due(5 + half_us, &mut out), Some(Order::Write));
    assert_eq!(out, [kind::PINGREQ, 0]);
    assert!(matches!(
        lose(&mut consumer, 5 + half_us + ANSWER_US),
        Some(Order::Lose(_))
    ));
    consumer.heard(6 + half_us);
    assert_eq!(
        consumer.due(5 + half_us + ANSWER_US, &mut out),
        Some(Order::Write)
    );
}

#[test]
fn the_keep_alive_and_the_session_expiry_of_connack_count() {
    let (keep_alive_s, kept_s) = (16_u64, 20_u64);
    let granted = [8, 0x13, 0, 16, 0x11, 0, 0, 0, 20];
    let answer = |client: &mut Client, now_us| {
        let body = [&[0, 0][..], &granted].concat();
        let (first, len) = (kind::CONNACK, body.len() + 2);
        let packet = Packet {
            first,
            body: &body,
            len,
        };
        match client.hear(&packet, now_us, &mut Vec::new()) {
            Ok(Heard::Connected { session, .. }) => session,
            other => panic!("{other:?}"),
        }
    };
    for (away_us, session) in [
        (kept_s * 1_000_000 - 1, Continued::Lost),
        (kept_s * 1_000_000, Continued::Expired),
    ] {
        let mut sender = client(None);
        assert_eq!(answer(&mut sender, 10), Continued::AsPromised);
        let mut out = Vec::new();
        let half_us = keep_alive_s * 500_000;
        assert_eq!(sender.due(4 + half_us, &mut out), None);
        assert_eq!(sender.due(5 + half_us, &mut out), Some(Order::Write));
        sender.lost(100);
        // A try that reaches nobody makes the session no younger.
        sender.dialed(200, &mut out);
        sender.lost(300);
        sender.dialed(400, &mut out);
        assert_eq!(answer(&mut sender, 100 + away_us), session);
    }
}

#[test]
fn a_server_keep_alive_of_0_asks_for_no_pings() {
    let mut sender = client(None);
    let body = [0, 0, 3, 0x13, 0, 0];
    hear(&mut sender, kind::CONNACK, &body, &mut Vec::new()).expect("accepted");
    assert!(sender.is_up());
    assert_eq!(sender.due(u64::MAX / 2, &mut Vec::new()), None);
}

#[test]
fn refusals_are_told_from_what_no_broker_may_do() {
    let mut out = Vec::new();
    let end = |heard: Result<Heard, End>| heard.expect_err("the end").violation;
    assert!(!end(hear(
        &mut client(None),
        kind::CONNACK,
        &[0, 0x88, 0],
        &mut out
    )));
    assert!(end(hear(&mut client(None), kind::CONNACK, &[0], &mut out)));
    assert!(end(hear(
        &mut client(None),
        kind::PUBLISH,
        &[0; 9],
        &mut out
    )));
    let mut up = client(None);
    connack(&mut up, false).expect("accepted");
    assert!(!end(hear(&mut up, kind::DISCONNECT, &[0x8B], &mut out)));
    assert!(end(hear(&mut up, kind::SUBACK, &[0, 1, 0, 1], &mut out)));
    let mut consumer = client(Some("a/#"));
    connack(&mut consumer, false).expect("accepted");
    assert!(!end(hear(
        &mut consumer,
        kind::SUBACK,
        &[0, 1, 0, 0x87],
        &mut out
    )));
}

#[test]
fn who_leaves_takes_the_session_along_and_comes_not_back() {
    let mut client = client(None);
    connack(&mut client, false).expect("accepted");
    let mut out = Vec::new();
    assert!(client.leave(&mut out));
    assert_eq!(out, [kind::DISCONNECT, 7, 0, 5, 0x11, 0, 0, 0, 0]);
    assert_eq!(client.due(u64::MAX / 2, &mut out), None);
    assert!(client.has_left() && !client.leave(&mut out));
    assert_eq!(
        hear(&mut client, kind::PUBACK, &[0, 1], &mut out),
        Ok(Heard::Little)
    );
}
