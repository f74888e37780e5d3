//! Both ends of a control connection, through real sockets.

use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use mio::{Events, Poll, Token};

use super::desk::{Desk, own_clock_us};
use super::line::Line;
use super::message::{
    Assignment, FromWorker, Presence, Receipt, Sample, Seen, Spread, Stream, ToWorker,
};
use crate::Error;
use crate::limits::{CONTROL_BACKLOG_BYTES, CONTROL_UNSENT_BYTES_MAX};
use crate::scenario::{FleetSpec, Scenario, Thresholds};

fn assignment() -> Assignment {
    let fleet = FleetSpec {
        proxies: 1,
        groups: 1,
        shards: 1,
        durability: "fsync".to_owned(),
        home_key: None,
    };
    let scenario = Scenario {
        name: "nothing".to_owned(),
        about: String::new(),
        seed: 1,
        fleet,
        populations: Vec::new(),
        consumers: Vec::new(),
        commands: Vec::new(),
        phases: Vec::new(),
        pass: Thresholds::default(),
    };
    Assignment {
        scenario,
        run: 7,
        worker: 2,
        targets: vec!["127.0.0.1:1883".parse().expect("an address")],
        tls_targets: Vec::new(),
        tls: None,
        shares: vec![0..0, 0..10, 10..20],
    }
}

/// Both ends, with the assignment given.
fn ends() -> (Line, Desk) {
    let (controller, worker) = UnixStream::pair().expect("a pair of sockets");
    let mut line = Line::open("worker 2".to_owned(), controller.into()).expect("a socket");
    line.send(&ToWorker::Begin(Box::new(assignment())))
        .expect("the worker is there");
    let (desk, given) = Desk::attach(worker).expect("the assignment waits");
    assert_eq!(given, assignment());
    (line, desk)
}

fn receipts(count: u32) -> Vec<Receipt> {
    let stream = Stream { kind: 1, device: 9 };
    let seen = Seen::First;
    (0..count)
        .map(|seq| Receipt { stream, seq, seen })
        .collect()
}

#[test]
fn orders_and_reports_arrive_as_they_were_sent() {
    let (mut line, mut desk) = ends();
    let order = ToWorker::Phase {
        index: 3,
        at_us: 1_000_000,
    };
    line.send(&order).expect("the worker is there");
    assert_eq!(desk.take().expect("well-formed"), Some(order));
    assert_eq!(desk.take().expect("still there"), None);
    let sample = Sample {
        latencies: vec![(
            super::message::LatencyKind::Connect,
            Spread(vec![(10, 3), (2_000, 1)]),
        )],
        errors: vec![("refused".to_owned(), 3)],
        ..Sample::default()
    };
    let reports = [
        FromWorker::Ready { process: 5 },
        FromWorker::Receipts {
            of: 0,
            receipts: receipts(5_000),
        },
        FromWorker::Presence(vec![Presence {
            device: 4,
            at_us: 9,
            subscribed: true,
        }]),
        FromWorker::Final(Box::new(sample)),
    ];
    for report in &reports {
        desk.send(report).expect("there is room");
    }
    desk.flush().expect("the controller is there");
    assert_eq!(desk.unsent_bytes(), 0);
    for report in reports {
        assert_eq!(line.take().expect("well-formed"), Some(report));
    }
    assert_eq!(line.take().expect("still there"), None);
}

#[test]
fn the_desk_answers_for_its_clock_and_takes_the_offset() {
    let (mut line, mut desk) = ends();
    assert_eq!(desk.now_us(), 0, "no offset yet");
    let before = own_clock_us();
    line.send(&ToWorker::Clock { sent_us: 77 })
        .expect("the worker is there");
    assert_eq!(desk.take().expect("well-formed"), None);
    let Some(FromWorker::Clock { sent_us, own_us }) = line.take().expect("well-formed") else {
        panic!("no answer");
    };
    assert_eq!(sent_us, 77);
    assert!((before..=own_clock_us()).contains(&own_us));
    let us = -own_us.cast_signed();
    line.send(&ToWorker::Offset { us })
        .expect("the worker is there");
    assert_eq!(desk.take().expect("well-formed"), None);
    let now = desk.now_us();
    assert!(now < 60_000_000, "run time: {now}");
    line.send(&ToWorker::Offset {
        us: us - 500_000_000,
    })
    .expect("the worker is there");
    assert_eq!(desk.take().expect("well-formed"), None);
    assert_eq!(desk.now_us(), now, "time does not go back");
}

#[test]
fn an_end_that_is_gone_is_named() {
    let (line, mut desk) = ends();
    drop(line);
    let error = desk.take().expect_err("nobody there");
    assert_eq!(error.to_string(), "the controller is gone");
    let (mut line, desk) = ends();
    drop(desk);
    let error = line.take().expect_err("nobody there");
    assert_eq!(error.to_string(), "worker 2 is gone");
}

#[test]
fn a_controller_that_does_not_read_fails_the_worker_at_the_limit() {
    let (_line, mut desk) = ends();
    let report = FromWorker::Receipts {
        of: 0,
        receipts: receipts(100_000),
    };
    let mut sent = || -> Result<(), Error> {
        desk.send(&report)?;
        desk.flush()
    };
    let mut rounds = 0;
    let error = loop {
        match sent() {
            Ok(()) => rounds += 1,
            Err(error) => break error,
        }
        assert!(rounds < 1_000, "it has to end");
    };
    assert!(
        error
            .to_string()
            .starts_with("the controller does not read"),
        "{error}"
    );
    assert!(desk.unsent_bytes() > CONTROL_UNSENT_BYTES_MAX);
}

#[test]
fn a_worker_that_does_not_read_is_crowded_until_it_does() {
    let (mut line, mut desk) = ends();
    let order = ToWorker::Receipts(receipts(50_000));
    let mut sent = 0;
    while !line.is_crowded() {
        line.send(&order).expect("below the limit");
        sent += 1;
    }
    assert!(sent > CONTROL_BACKLOG_BYTES / 1_000_000);
    let mut arrived = 0;
    while arrived < sent {
        while let Some(order) = desk.take().expect("well-formed") {
            assert!(matches!(order, ToWorker::Receipts(all) if all.len() == 50_000));
            arrived += 1;
        }
        line.flush().expect("the worker is there");
    }
    assert!(!line.is_crowded());
}

#[test]
fn tcp_works_too_and_wakes_a_poll() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("bound");
    let controller = TcpStream::connect(addr).expect("somebody listens");
    let (worker, _) = listener.accept().expect("somebody came");
    let mut line = Line::open("worker 1".to_owned(), controller.into()).expect("a socket");
    line.send(&ToWorker::Begin(Box::new(assignment())))
        .expect("the worker is there");
    let (mut desk, _) = Desk::attach(worker).expect("the assignment waits");
    let mut poll = Poll::new().expect("a poll");
    desk.register(poll.registry(), Token(7))
        .expect("a socket can be waited for");
    line.send(&ToWorker::Finish).expect("the worker is there");
    let mut events = Events::with_capacity(4);
    let order = loop {
        poll.poll(&mut events, None).expect("a poll");
        assert!(events.iter().all(|event| event.token() == Token(7)));
        if let Some(order) = desk.take().expect("well-formed") {
            break order;
        }
    };
    assert_eq!(order, ToWorker::Finish);
}

#[test]
fn whoever_begins_otherwise_is_refused() {
    let (controller, worker) = UnixStream::pair().expect("a pair of sockets");
    let mut line = Line::open("worker 2".to_owned(), controller.into()).expect("a socket");
    line.send(&ToWorker::Finish).expect("the worker is there");
    let error = Desk::attach(worker).expect_err("no assignment");
    assert_eq!(
        error.to_string(),
        "the controller began without an assignment"
    );
}
