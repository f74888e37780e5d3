//! Who sends what when, and what became of it. No sockets and no clock in here.
//!
//! One thread owns every publisher together with all of its receivers, so windows, progress and
//! the oracle are plain counters.

mod pace;
mod publisher;

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

pub(crate) use pace::{Pace, Schedule};
use publisher::Publisher;

use crate::latency::Latency;
use crate::limits::UNSENT_BYTES_MAX;
use crate::oracle::{Seen, Stream};
use crate::wire::{Stamp, Template, Version};

/// How publishers and subscribers belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Publisher i to subscriber i.
    Pair,
    /// Every publisher to the one subscriber.
    FanIn,
    /// The one publisher to every subscriber.
    FanOut,
    /// Every message of every publisher to one subscriber of a shared group.
    Share,
}

/// What one thread sends.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) shape: Shape,
    pub(crate) version: Version,
    pub(crate) qos: u8,
    pub(crate) size: usize,
    pub(crate) pace: Pace,
    /// One topic for each publisher.
    pub(crate) topics: Vec<String>,
    pub(crate) subscribers: usize,
}

/// Errors by kind.
pub(crate) type Errors = BTreeMap<String, u64>;

/// What became of one thread's messages over the whole run.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Acknowledged (`QoS` 0: sent) and never delivered.
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    /// Messages the open-loop schedule asked for that never left.
    pub(crate) unsent: u64,
    pub(crate) latency_us: Histogram<u64>,
    pub(crate) errors: Errors,
}

/// One thread's publishers, streams and counters.
#[derive(Debug)]
pub(crate) struct Traffic {
    shape: Shape,
    version: Version,
    subscribers: usize,
    pace: Pace,
    publishers: Vec<Publisher>,
    streams: Vec<Stream>,
    /// `Share`: one more than the last number, by subscriber and publisher.
    last_seen: Vec<u64>,
    share_reordered: u64,
    /// `FanOut`: how many subscribers passed each message that some have not.
    passed: Vec<u32>,
    ready: Vec<u32>,
    schedule: Option<Schedule>,
    publishing: bool,
    measuring: bool,
    sent: u64,
    delivered: u64,
    acks: u64,
    latency: Latency,
    errors: Errors,
}

impl Traffic {
    /// Nothing sent yet, nothing to send before [`Traffic::start`].
    pub(crate) fn new(spec: &Spec) -> Self {
        let publishers = spec.topics.iter().enumerate().map(|(sender, topic)| {
            let template = Template::new(spec.version, spec.qos, topic, sender as u32, spec.size);
            Publisher::new(template, spec.qos, &spec.pace)
        });
        let publishers: Vec<Publisher> = publishers.collect();
        let streams = publishers.len().max(if spec.shape == Shape::Share {
            0
        } else {
            spec.subscribers
        });
        let share_cells = if spec.shape == Shape::Share {
            spec.subscribers
        } else {
            0
        };
        let ring = match (spec.shape, &spec.pace) {
            (Shape::FanOut, Pace::Window(_)) => publishers[0].ahead_max(),
            _ => 0,
        };
        Self {
            shape: spec.shape,
            version: spec.version,
            subscribers: spec.subscribers,
            pace: spec.pace.clone(),
            last_seen: vec![0; share_cells * publishers.len()],
            passed: vec![0; ring as usize],
            streams: (0..streams).map(|_| Stream::default()).collect(),
            publishers,
            share_reordered: 0,
            ready: Vec::new(),
            schedule: None,
            publishing: false,
            measuring: false,
            sent: 0,
            delivered: 0,
            acks: 0,
            latency: Latency::new(),
            errors: Errors::new(),
        }
    }

    /// Messages sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Messages delivered so far, repetitions not counted.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// The publishers may send from `now_ns` on.
    pub(crate) fn start(&mut self, now_ns: u64) {
        self.publishing = true;
        match &self.pace {
            Pace::Window(_) => self.wake_all(),
            Pace::Rate { per_s } => {
                self.schedule = Some(Schedule::new(*per_s, self.publishers.len() as u64, now_ns));
            }
        }
    }

    /// Latency counts from here.
    pub(crate) fn measure(&mut self) {
        self.latency.clear();
        self.measuring = true;
    }

    /// The publishers send nothing new; latency is as it was measured.
    pub(crate) fn stop(&mut self) {
        self.publishing = false;
        self.measuring = false;
        self.ready.clear();
    }

    /// True once everything sent has arrived everywhere and is acknowledged.
    pub(crate) fn settled(&self) -> bool {
        let receivers = if self.shape == Shape::FanOut {
            self.subscribers as u64
        } else {
            1
        };
        self.delivered == self.sent * receivers && self.publishers.iter().all(|p| p.unacked() == 0)
    }

    /// Moves with every arrival and every acknowledgement.
    pub(crate) fn progress(&self) -> u64 {
        self.delivered + self.acks
    }

    /// A lower Receive Maximum than the window: the broker's word counts.
    pub(crate) fn limit_unacked(&mut self, publisher: u32, receive_max: u16) {
        self.publishers[publisher as usize].limit_unacked(u64::from(receive_max));
    }

    /// The oracle's look at one arrival.
    #[inline]
    pub(crate) fn deliver(
        &mut self,
        to: u32,
        stamp: Stamp,
        now_ns: u64,
    ) -> Result<(), &'static str> {
        let stream = match self.shape {
            Shape::Pair | Shape::FanOut => to as usize,
            Shape::FanIn | Shape::Share => stamp.sender as usize,
        };
        let addressed = self.shape != Shape::Pair || stamp.sender == to;
        let publisher = stamp.sender as usize;
        if !addressed
            || self
                .publishers
                .get(publisher)
                .is_none_or(|p| stamp.seq >= p.sent)
        {
            return Err("received a message that was never sent to it");
        }
        let before = self.streams[stream].next();
        let seen = self.streams[stream].see(stamp.seq);
        self.delivered += u64::from(seen != Seen::Duplicate);
        match self.shape {
            Shape::Pair | Shape::FanIn => {
                self.publishers[publisher].arrived_up_to(self.streams[stream].next());
            }
            Shape::FanOut => self.pass(before, self.streams[stream].next()),
            Shape::Share => self.deliver_shared(to, stamp, seen),
        }
        if self.measuring {
            self.latency.record(now_ns.saturating_sub(stamp.time_ns));
        }
        self.offer(publisher);
        Ok(())
    }

    /// PUBACK or PUBCOMP came.
    #[inline]
    pub(crate) fn acked(&mut self, publisher: u32, packet_id: u16, reason: u8) {
        let publisher = publisher as usize;
        self.acks += 1;
        if !self.publishers[publisher].acked(packet_id) {
            self.error("acknowledgement out of order or unasked");
        }
        if reason >= 0x80 {
            self.error(&format!("publish refused with reason 0x{reason:02x}"));
        }
        self.offer(publisher);
    }

    /// The next publisher that may send; its turn is then over until something arrives for it.
    #[inline]
    pub(crate) fn next_ready(&mut self) -> Option<u32> {
        let next = self.ready.pop()?;
        self.publishers[next as usize].queued = false;
        Some(next)
    }

    /// Appends to `out` what `publisher` may send now.
    #[inline]
    pub(crate) fn fill(&mut self, publisher: u32, out: &mut Vec<u8>, now_ns: u64) {
        if !self.publishing {
            return;
        }
        let due = self.schedule.as_ref().map(|s| s.due_of(publisher));
        let source = &mut self.publishers[publisher as usize];
        let credit = match due {
            None => source.credit(),
            Some(due) => source.unacked_credit().min(due.saturating_sub(source.sent)),
        };
        for _ in 0..credit {
            if out.len() >= UNSENT_BYTES_MAX {
                break;
            }
            let time_ns = match &self.schedule {
                None => now_ns,
                Some(schedule) => schedule.intended_ns(publisher, source.sent),
            };
            source.append(out, time_ns);
            self.sent += 1;
        }
    }

    /// The socket of `publisher` took everything: it may have waited for that.
    pub(crate) fn unblocked(&mut self, publisher: u32) {
        self.offer(publisher as usize);
    }

    /// Open loop: makes everything due at `now_ns` ready.
    pub(crate) fn advance(&mut self, now_ns: u64) {
        let Some(schedule) = self.schedule.as_mut().filter(|_| self.publishing) else {
            return;
        };
        let (from, to) = schedule.advance(now_ns);
        let count = self.publishers.len() as u64;
        for message in from..to.min(from + count) {
            self.enqueue((message % count) as usize);
        }
    }

    /// Closed loop at `QoS` 0: windows without any delivery since the last call open again.
    pub(crate) fn write_off_stalled(&mut self) {
        for index in 0..self.publishers.len() {
            if self.publishers[index].write_off_if_stalled() {
                self.passed.fill(0);
                self.offer(index);
            }
        }
    }

    /// Counts an error.
    #[cold]
    pub(crate) fn error(&mut self, kind: &str) {
        *self.errors.entry(kind.to_owned()).or_default() += 1;
    }

    /// The verdict over the whole run.
    pub(crate) fn finish(mut self) -> Tally {
        let unacked: u64 = self.publishers.iter().map(Publisher::unacked).sum();
        if unacked > 0 {
            self.errors
                .insert("publish never acknowledged".to_owned(), unacked);
        }
        let promised_to = |stream: usize| match self.shape {
            Shape::FanOut => self.publishers[0].promised(),
            _ => self.publishers[stream].promised(),
        };
        let lost = self
            .streams
            .iter()
            .enumerate()
            .map(|(i, s)| s.lost(promised_to(i)))
            .sum();
        let reordered = match self.shape {
            Shape::Share => self.share_reordered,
            _ => self.streams.iter().map(|s| s.reordered).sum(),
        };
        Tally {
            lost,
            duplicated: self.streams.iter().map(|s| s.duplicated).sum(),
            reordered,
            unsent: self
                .schedule
                .as_ref()
                .map_or(0, |s| s.due().saturating_sub(self.sent)),
            latency_us: self.latency.finish(),
            errors: self.errors,
        }
    }

    /// The version all devices of this thread speak.
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// A subscriber of the fan-out went past the messages `from..to`; those that all passed leave
    /// the window.
    fn pass(&mut self, from: u64, to: u64) {
        let source = &mut self.publishers[0];
        let ring = self.passed.len() as u64;
        if ring == 0 {
            return;
        }
        for seq in from.max(source.arrived)..to {
            self.passed[(seq % ring) as usize] += 1;
        }
        while self.passed[(source.arrived % ring) as usize] as usize == self.subscribers {
            self.passed[(source.arrived % ring) as usize] = 0;
            source.arrived += 1;
        }
    }

    /// Within a shared group each subscriber must see each publisher's messages in order; numbers
    /// that went to others are no gaps.
    fn deliver_shared(&mut self, to: u32, stamp: Stamp, seen: Seen) {
        if seen == Seen::Duplicate {
            return;
        }
        let publisher = stamp.sender as usize;
        let last = &mut self.last_seen[to as usize * self.publishers.len() + publisher];
        self.share_reordered += u64::from(stamp.seq < *last);
        *last = (*last).max(stamp.seq + 1);
        self.publishers[publisher].arrived += 1;
    }

    fn offer(&mut self, publisher: usize) {
        let source = &self.publishers[publisher];
        let worth_a_write = match &self.schedule {
            None => source.worth_a_write(),
            Some(schedule) => schedule.due_of(publisher as u32) > source.sent,
        };
        if self.publishing && worth_a_write {
            self.enqueue(publisher);
        }
    }

    fn enqueue(&mut self, publisher: usize) {
        let source = &mut self.publishers[publisher];
        if !source.queued {
            source.queued = true;
            self.ready.push(publisher as u32);
        }
    }

    fn wake_all(&mut self) {
        for publisher in 0..self.publishers.len() {
            self.enqueue(publisher);
        }
    }
}

#[cfg(test)]
mod tests;
