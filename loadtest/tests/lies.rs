//! The oracle finds exactly the lies a broker tells.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use clap::Parser;
use mqtt_fleet_loadtest::{Error, LoadtestArgs, Verdict, run};
use mqttbytes::v4::{self, ConnectReturnCode, Packet, Publish, SubscribeReasonCode};
use mqttbytes::{Error as Malformed, QoS};

/// What the broker does to messages of every topic, by their position in it.
#[derive(Debug, Clone, Copy, Default)]
struct Lies {
    drop: &'static [u64],
    repeat: &'static [u64],
    /// Each of these comes after its successor.
    swap: &'static [u64],
    refuse_connect: bool,
    refuse_subscribe: bool,
    /// Closes the publisher's connection instead of taking this message.
    close_at: Option<u64>,
}

/// The subscriber of each topic. Written to by its own thread and its publisher's.
type Subscribers = Arc<Mutex<HashMap<String, Arc<Mutex<TcpStream>>>>>;

/// A broker in this process, on an independent codec: exact topics, one subscriber each.
fn broker(lies: Lies) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("bound");
    let subscribers = Subscribers::default();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let socket = socket.expect("accepted");
            let session = Session {
                writer: Arc::new(Mutex::new(socket.try_clone().expect("a second handle"))),
                subscribers: Arc::clone(&subscribers),
                lies,
                position: 0,
                kept_back: None,
                last_id: 0,
            };
            std::thread::spawn(move || session.serve(socket));
        }
    });
    addr
}

struct Session {
    writer: Arc<Mutex<TcpStream>>,
    subscribers: Subscribers,
    lies: Lies,
    position: u64,
    kept_back: Option<Publish>,
    last_id: u16,
}

impl Session {
    fn serve(mut self, mut socket: TcpStream) {
        let mut bytes = BytesMut::new();
        let mut block = [0; 4_096];
        loop {
            match v4::read(&mut bytes, 1 << 20) {
                Ok(packet) => {
                    if !self.take(packet) {
                        break;
                    }
                    continue;
                }
                Err(Malformed::InsufficientBytes(_)) => {}
                Err(error) => panic!("the load simulator sent nonsense: {error:?}"),
            }
            match socket.read(&mut block) {
                Ok(0) => break,
                Ok(len) => bytes.extend_from_slice(&block[..len]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) => panic!("{error}"),
            }
        }
        drop(socket.shutdown(std::net::Shutdown::Both)); // It may be gone already.
    }

    /// False ends the connection.
    fn take(&mut self, packet: Packet) -> bool {
        let mut out = BytesMut::new();
        match packet {
            Packet::Connect(_) => {
                let code = if self.lies.refuse_connect {
                    ConnectReturnCode::NotAuthorized
                } else {
                    ConnectReturnCode::Success
                };
                v4::ConnAck::new(code, false).write(&mut out)
            }
            Packet::Subscribe(packet) => {
                let filter = packet.filters.into_iter().next().expect("one filter");
                let code = if self.lies.refuse_subscribe {
                    SubscribeReasonCode::Failure
                } else {
                    SubscribeReasonCode::Success(filter.qos)
                };
                let writer = Arc::clone(&self.writer);
                self.subscribers
                    .lock()
                    .expect("no panic")
                    .insert(filter.path, writer);
                v4::SubAck::new(packet.pkid, vec![code]).write(&mut out)
            }
            Packet::Publish(packet) => {
                let (qos, id) = (packet.qos, packet.pkid);
                if !self.forward(packet) {
                    return false;
                }
                match qos {
                    QoS::AtMostOnce => Ok(0),
                    QoS::AtLeastOnce => v4::PubAck::new(id).write(&mut out),
                    QoS::ExactlyOnce => v4::PubRec::new(id).write(&mut out),
                }
            }
            Packet::PubRec(packet) => v4::PubRel::new(packet.pkid).write(&mut out),
            Packet::PubRel(packet) => v4::PubComp::new(packet.pkid).write(&mut out),
            Packet::PubAck(_) | Packet::PubComp(_) => Ok(0),
            Packet::Disconnect => return false,
            other => panic!("the load simulator sent {other:?}"),
        }
        .expect("well-formed");
        send(&self.writer, &out)
    }

    fn forward(&mut self, packet: Publish) -> bool {
        let position = self.position;
        self.position += 1;
        if self.lies.close_at == Some(position) {
            return false;
        }
        let mut out = BytesMut::new();
        if self.lies.swap.contains(&position) {
            self.kept_back = Some(packet);
            return true;
        }
        let writer = self
            .subscribers
            .lock()
            .expect("no panic")
            .get(&packet.topic)
            .cloned();
        let copies = match position {
            _ if self.lies.drop.contains(&position) => 0,
            _ if self.lies.repeat.contains(&position) => 2,
            _ => 1,
        };
        let copies = std::iter::repeat_n(packet, copies).chain(self.kept_back.take());
        for mut copy in copies {
            self.last_id = self.last_id % u16::MAX + 1;
            copy.pkid = if copy.qos == QoS::AtMostOnce {
                0
            } else {
                self.last_id
            };
            copy.write(&mut out).expect("well-formed");
        }
        send(
            &writer.expect("subscribed before anything is published"),
            &out,
        )
    }
}

/// False if the other side is gone.
fn send(writer: &Mutex<TcpStream>, bytes: &[u8]) -> bool {
    writer.lock().expect("no panic").write_all(bytes).is_ok()
}

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    load: LoadtestArgs,
}

fn loaded(addr: SocketAddr, more: &str) -> Result<Verdict, Error> {
    let secs = if more.contains("--secs") {
        ""
    } else {
        "--secs 1"
    };
    let line = format!("loadtest pair --addr {addr} --pairs 6 --warmup 0.1 {secs} {more}");
    run(&Cli::parse_from(line.split_whitespace()).load)
}

fn counts(verdict: &Verdict) -> (u64, u64, u64) {
    (verdict.lost, verdict.duplicated, verdict.reordered)
}

#[test]
fn an_honest_broker_passes_at_every_qos_in_both_loops() {
    let addr = broker(Lies::default());
    for more in [
        "--qos 0",
        "--qos 1",
        "--qos 2",
        "--qos 1 --rate 3000",
        "--qos 0 --size 5000",
    ] {
        let verdict = loaded(addr, more).expect("a verdict");
        assert!(!verdict.failed(), "{more}: {verdict}");
        assert_eq!(counts(&verdict), (0, 0, 0), "{more}");
        assert!(verdict.delivered > 100, "{more}: {verdict}");
        assert!(
            verdict.e2e_us.max >= verdict.e2e_us.p50 && verdict.e2e_us.p50 > 0,
            "{more}"
        );
    }
}

#[test]
fn the_open_loop_keeps_its_rate() {
    let addr = broker(Lies::default());
    let verdict = loaded(addr, "--rate 2000 --secs 4").expect("a verdict");
    assert!((7_000..9_000).contains(&verdict.sent), "{verdict}");
    assert!(
        !verdict.failed() && verdict.rate == Some(2_000.0),
        "{verdict}"
    );
}

#[test]
fn lies_at_qos_0_are_counted_and_only_the_order_is_a_promise() {
    let lies = Lies {
        drop: &[5, 6, 9],
        repeat: &[11],
        ..Lies::default()
    };
    let verdict = loaded(broker(lies), "--qos 0").expect("a verdict");
    assert_eq!(counts(&verdict), (3 * 6, 6, 0));
    assert!(!verdict.failed(), "{verdict}");
    let lies = Lies {
        swap: &[20, 30],
        ..Lies::default()
    };
    let verdict = loaded(broker(lies), "--qos 0").expect("a verdict");
    assert_eq!(counts(&verdict), (0, 0, 2 * 6));
    assert!(verdict.failed(), "{verdict}");
}

#[test]
fn lies_at_qos_1_are_counted_and_losses_fail() {
    let lies = Lies {
        drop: &[3],
        repeat: &[0, 12],
        swap: &[20],
        ..Lies::default()
    };
    let verdict = loaded(broker(lies), "--qos 1").expect("a verdict");
    assert_eq!(counts(&verdict), (6, 2 * 6, 6));
    assert_eq!(
        verdict.failures,
        ["6 messages lost", "6 messages out of order"]
    );
}

#[test]
fn lies_at_qos_2_are_counted_and_repetitions_fail() {
    let lies = Lies {
        repeat: &[7],
        ..Lies::default()
    };
    let verdict = loaded(broker(lies), "--qos 2").expect("a verdict");
    assert_eq!(counts(&verdict), (0, 6, 0));
    assert_eq!(verdict.failures, ["6 repeated"]);
}

#[test]
fn a_connection_closed_under_load_fails() {
    let lies = Lies {
        close_at: Some(50),
        ..Lies::default()
    };
    let verdict = loaded(broker(lies), "--qos 1").expect("a verdict");
    assert!(verdict.failed(), "{verdict}");
    let ended: u64 = verdict
        .errors
        .iter()
        .filter(|(kind, _)| !kind.contains("never"))
        .map(|e| e.1)
        .sum();
    assert_eq!(ended, 6, "{verdict}");
}

#[test]
fn a_refusal_names_the_address_and_the_device() {
    let addr = broker(Lies {
        refuse_connect: true,
        ..Lies::default()
    });
    let error = loaded(addr, "").expect_err("refused").to_string();
    assert!(
        error.contains(&addr.to_string()) && error.contains("code 0x05"),
        "{error}"
    );
    let addr = broker(Lies {
        refuse_subscribe: true,
        ..Lies::default()
    });
    let error = loaded(addr, "").expect_err("refused").to_string();
    assert!(
        error.contains(&addr.to_string()) && error.contains("code 0x80"),
        "{error}"
    );
}

#[test]
fn nobody_listening_names_the_address() {
    // Below the ports that are given out.
    let addr = SocketAddr::from(([127, 0, 0, 1], 1));
    let error = loaded(addr, "").expect_err("nobody there");
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    assert!(
        error
            .to_string()
            .contains(&format!("cannot connect to {addr}")),
        "{error}"
    );
}

#[test]
fn connections_that_come_and_go_are_counted() {
    let addr = broker(Lies::default());
    for scenario in [
        "connect --outstanding 8",
        "storm --conns 40",
        "idle --conns 40",
    ] {
        let line = format!("loadtest {scenario} --addr {addr} --warmup 0.1 --secs 2");
        let verdict = run(&Cli::parse_from(line.split_whitespace()).load).expect("a verdict");
        assert!(!verdict.failed(), "{verdict}");
        assert!(verdict.connects >= 40, "{verdict}");
        assert_eq!(verdict.storm_s.is_some(), scenario.starts_with("storm"));
    }
}

#[test]
fn the_result_is_written_as_json() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("result.json");
    let addr = broker(Lies::default());
    let more = format!("--pid {} --json {}", std::process::id(), path.display());
    let verdict = loaded(addr, &more).expect("a verdict");
    let text = std::fs::read_to_string(path).expect("written");
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(json["scenario"], "pair");
    assert_eq!(json["delivered"], verdict.delivered);
    assert!(json["broker_cpu_s"].as_f64().expect("a pid was given") > 0.0);
    assert!(json["broker_rss_bytes"].as_u64().expect("a pid was given") > 0);
}
