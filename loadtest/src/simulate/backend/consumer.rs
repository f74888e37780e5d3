//! Consumers: what arrives from devices, and what it means.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_64;

use super::books::Books;
use super::plan::{Plan, Texts};
use crate::account::{self, Feed, Full, Heard, Meaning, Stamp};
use crate::control::message::{Finding, FindingKind, LatencyKind, Stream};
use crate::scenario::Consumer;
use crate::wire::{self, Published, kind};

/// One receiver of telemetry: all connections of a share, or one connection with a subscription of its own.
#[derive(Debug)]
pub(super) struct Receiver {
    /// Among the receivers of the back end.
    number: u32,
    qos: u8,
    /// There is one connection, so that there is an order to keep.
    in_order: bool,
    /// Whether the filter matches the telemetry of each population.
    hears: Vec<bool>,
    /// By device: what has arrived, and the `epoch` that it stands for.
    heard: Vec<(Heard, u32)>,
    /// Grows when a connection is lost.
    epoch: u32,
}

impl Receiver {
    /// Nothing has arrived. It is number `number` of the back end's receivers.
    pub(super) fn new(number: usize, consumer: &Consumer, plan: &Plan) -> Self {
        let populations = plan.scenario.populations.iter();
        let hears = populations.map(|population| account::hears(consumer, population));
        Self {
            number: number as u32,
            qos: consumer.qos,
            in_order: consumer.share.is_none() || consumer.connections == 1,
            hears: hears.collect(),
            heard: vec![(Heard::default(), 0); plan.scenario.device_count() as usize],
            epoch: 0,
        }
    }

    /// One of its connections is gone: what it had not acknowledged may come again, to any of them.
    pub(super) fn connection_lost(&mut self) {
        self.epoch += 1;
    }

    /// A message has come that the application sees.
    pub(super) fn arrived(
        &mut self,
        published: &Published<'_>,
        now_us: u64,
        plan: &Plan,
        texts: &mut Texts,
        books: &mut Books,
    ) -> Result<(), Full> {
        let stamp = match Stamp::read(published.payload) {
            Ok(stamp) if stamp.run == plan.run => stamp,
            Ok(_) => return Ok(()), // Another run's, on the same brokers.
            Err(unreadable) => {
                misread(published.topic, unreadable.reason(), now_us, plan, books);
                return Ok(());
            }
        };
        let finding = |kind, detail: String| Finding {
            kind,
            stream: stamp.stream,
            seq: Some(stamp.seq),
            at_us: stamp.due_us,
            qos: published.qos,
            detail,
        };
        if let Err(detail) = self.check(&stamp, published, plan, texts) {
            books
                .findings
                .add(finding(FindingKind::Misdelivered, detail));
            return Ok(());
        }
        let due = plan.telemetry_qos(stamp.stream.device).min(self.qos);
        if published.qos != due {
            let detail = format!("delivered at QoS {}, promised at {due}", published.qos);
            books.findings.add(finding(FindingKind::Violation, detail));
        }
        let meaning = self.meaning(&stamp, published, books)?;
        if let Some(kind) = meaning.finding() {
            books.findings.add(finding(kind, String::new()));
        }
        match meaning {
            Meaning::New | Meaning::Reordered => {
                first(&stamp, published, now_us, books);
                if account::is_late(stamp.due_us, now_us) {
                    let late_ms = (now_us - stamp.due_us) / 1_000;
                    books
                        .findings
                        .add(finding(FindingKind::Late, format!("{late_ms} ms")));
                }
            }
            Meaning::Repeated => books.counts.repeated += 1,
            Meaning::Suspect | Meaning::DuplicatedQos0 => {}
        }
        if let Some(seen) = meaning.receipt(published.qos) {
            books.receipt(stamp.stream, stamp.seq, seen);
        }
        Ok(())
    }

    /// An error: the message is none of those that this consumer is to get, in words.
    fn check(
        &self,
        stamp: &Stamp,
        published: &Published<'_>,
        plan: &Plan,
        texts: &mut Texts,
    ) -> Result<(), String> {
        let Stream { kind, device } = stamp.stream;
        if kind != 0 || device >= plan.scenario.device_count() {
            return Err("a consumer got what is no telemetry".to_owned());
        }
        let expected = plan.telemetry_topic(device, texts);
        let topic = String::from_utf8_lossy(published.topic);
        if expected != Some(&*topic) {
            return Err(format!("came as {topic}"));
        }
        let hears = self.hears[plan.scenario.population_of(device)];
        let deaf = || format!("{topic} came to a consumer that has not asked for it");
        if hears { Ok(()) } else { Err(deaf()) }
    }

    fn meaning(
        &mut self,
        stamp: &Stamp,
        published: &Published<'_>,
        books: &mut Books,
    ) -> Result<Meaning, Full> {
        let (heard, epoch) = &mut self.heard[stamp.stream.device as usize];
        if *epoch != self.epoch {
            *epoch = self.epoch;
            heard.connection_lost();
        }
        let feed = Feed {
            receiver: self.number,
            stream: stamp.stream,
        };
        let arrival = books.gaps.arrived(heard, feed, stamp.seq)?;
        let Published { qos, dup, .. } = *published;
        Ok(account::meaning(arrival, qos, dup, self.in_order))
    }
}

fn first(stamp: &Stamp, published: &Published<'_>, now_us: u64, books: &mut Books) {
    books.counts.received[usize::from(published.qos)] += 1;
    books.counts.bytes[1] += published.payload.len() as u64;
    let latency_us = now_us.saturating_sub(stamp.due_us);
    books.spreads.record(LatencyKind::Telemetry, latency_us);
}

/// A payload that cannot be read. Where its topic is none of this run it may be anybody's.
fn misread(topic: &[u8], reason: &str, now_us: u64, plan: &Plan, books: &mut Books) {
    let topic = String::from_utf8_lossy(topic);
    let Some(device) = plan.device_named_in(&topic) else {
        return;
    };
    books.findings.add(Finding {
        kind: FindingKind::Misdelivered,
        stream: Stream { kind: 0, device },
        seq: None,
        at_us: now_us,
        qos: 0,
        detail: format!("{topic}: {reason}"),
    });
}

/// A consumer's half of its session: the `QoS` 2 messages that it has and has not seen released. Packet ids bound it:
/// 65,535 entries.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// By packet id: a hash of the payload, and the connection.
    unreleased: HashMap<u16, (u64, u32)>,
    connection: u32,
}

/// What a PUBLISH is to the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// A message.
    Message,
    /// A `QoS` 2 message that it has already and whose PUBREC was on its way: not shown again.
    Known,
}

impl Inbox {
    /// A connection is up; a lost session takes the client's state with it.
    pub(super) fn begin(&mut self, session_lost: bool) {
        self.connection += 1;
        if session_lost {
            self.unreleased.clear();
        }
    }

    /// A PUBLISH came; it is answered at once. The words are for what no broker may do.
    pub(super) fn take(
        &mut self,
        published: &Published<'_>,
        out: &mut Vec<u8>,
    ) -> (Taken, Option<&'static str>) {
        match published.qos {
            0 => return (Taken::Message, None),
            1 => {
                wire::ack(out, kind::PUBACK, published.id);
                return (Taken::Message, None);
            }
            _ => wire::ack(out, kind::PUBREC, published.id),
        }
        let message = xxh3_64(published.payload);
        let known = self
            .unreleased
            .insert(published.id, (message, self.connection));
        match known {
            None => (Taken::Message, None),
            Some((other, _)) if other != message => (
                Taken::Message,
                Some("packet id used for another message before its PUBREL"),
            ),
            Some((_, connection)) if connection == self.connection => (
                Taken::Known,
                Some("QoS 2 PUBLISH sent again on one connection"),
            ),
            Some(_) if !published.dup => {
                (Taken::Known, Some("QoS 2 PUBLISH sent again without DUP"))
            }
            Some(_) => (Taken::Known, None),
        }
    }

    /// PUBREL came; one whose PUBCOMP was lost is answered again.
    pub(super) fn release(&mut self, id: u16, out: &mut Vec<u8>) {
        self.unreleased.remove(&id);
        wire::ack(out, kind::PUBCOMP, id);
    }
}

#[cfg(test)]
#[path = "consumer_tests.rs"]
mod tests;
