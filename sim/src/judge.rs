//! The oracle: hears of everything that a device sends and gets, and of what is stored and applied; remembers it, and
//! asks each invariant.

use crate::invariants::agreement::{self, Applied};
use crate::invariants::{
    Verdict, Violation, expiry, p1_ack_means_stored, p2_nothing_lost, p3_exactly_once, p4_order,
    p5_one_owner, p6_session_present, records, shared, wills_once,
};
use crate::ledger::{Fate, Kind, Known, Ledger, Left, Receipt, Sent, Standing};
use crate::names::Names;
use crate::net::ConnId;
use crate::plan::Plan;
use crate::stored::Stored;
use cluster::ids::Epoch;
use session_store::Record;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) struct Judge {
    pub(crate) ledger: Ledger,
    pub(crate) stored: Stored,
    applied: Applied,
    topic_group: Vec<usize>,
    /// Nothing in this world keeps a group from knowing the time and who is connected.
    pub(crate) exact: bool,
    violation: Option<Violation>,
}

impl Judge {
    pub(crate) fn new(plan: &Plan, names: &Names) -> Self {
        let standing = |expiry_s| Standing {
            session: 0,
            known: Known::None,
            expiry_s,
            granted: BTreeMap::new(),
            since: BTreeMap::new(),
            unsure: BTreeSet::new(),
            shares: false,
            unshares: false,
            got: Vec::new(),
            newest: (Epoch::default(), 0),
        };
        let devices = plan.devices.iter().map(|device| standing(device.expiry_s));
        Self {
            ledger: Ledger {
                devices: devices.collect(),
                matching: names.matching(),
                shared_by: (0..names.topics.len())
                    .map(|topic| names.shared_by(topic))
                    .collect(),
                ..Ledger::default()
            },
            stored: Stored::new(&plan.brokers(), &plan.groups),
            applied: Applied::new(plan.groups.len()),
            topic_group: names.topic_group.clone(),
            exact: !plan.long_outages && !plan.clock_jumps,
            violation: None,
        }
    }

    /// The first thing that was wrong.
    pub(crate) fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    pub(crate) fn find(&mut self, verdict: Verdict) {
        if let (None, Err(violation)) = (&self.violation, verdict) {
            self.violation = Some(violation);
        }
    }

    /// A device sends a message for the first time, or leaves it as its will. Its number.
    pub(crate) fn sent(&mut self, sent: Sent) -> u32 {
        self.ledger.sent.push(sent);
        self.ledger.sent.len() as u32 - 1
    }

    /// PUBACK or PUBREC.
    pub(crate) fn acked(&mut self, now: u64, number: u32) {
        let sent = &mut self.ledger.sent[number as usize];
        let first = sent.acked_at.is_none();
        sent.acked_at.get_or_insert(now);
        let group = self.topic_group[sent.topic];
        let (device, conn, kind) = (sent.device, sent.conn, sent.kind);
        if first {
            let verdict = p1_ack_means_stored::acked(
                &self.ledger,
                &self.stored,
                number,
                group,
                (now, self.exact),
            );
            self.find(verdict);
        }
        if kind == Kind::Stale {
            self.find(p5_one_owner::acked_stale(
                &self.ledger,
                device,
                conn,
                number,
            ));
        }
    }

    /// CONNACK with success; `known` is what was known when CONNECT left.
    pub(crate) fn connected(
        &mut self,
        now: u64,
        device: usize,
        (conn, epoch): (ConnId, Epoch),
        (known, clean, present): (Known, bool, bool),
    ) {
        self.ledger.conns.insert(conn, (now, epoch));
        self.ledger.devices[device].known = known;
        let verdict = p6_session_present::connected(&self.ledger, device, clean, present);
        self.find(verdict);
        let verdict = expiry::connected(&self.ledger, device, (clean, present), now, self.exact);
        self.find(verdict);
        let lasts = self.ledger.devices[device].expiry_s.is_some();
        if !present && !clean && known != Known::None {
            self.ledger.end_session(device);
        } else if !clean && self.may_be_another(now, device) {
            self.ledger.doubt_session(device);
        }
        let count = self.ledger.sent.len() as u32;
        let standing = &mut self.ledger.devices[device];
        standing.known = if lasts {
            Known::Some { left: None }
        } else {
            Known::None
        };
        if standing.newest.0 < epoch {
            standing.newest = (epoch, count);
        }
    }

    /// A session that was over when a CONNECT came which had no answer: that CONNECT may have made the one that is there
    /// now.
    fn may_be_another(&self, now: u64, device: usize) -> bool {
        let standing = &self.ledger.devices[device];
        let tried = |left: Left| left.tried_at.is_some();
        matches!(standing.known, Known::Some { left: Some(left) } if tried(left))
            && !standing.is_alive(now, self.exact)
    }

    /// A message has come over the connection that the device uses.
    pub(crate) fn received(&mut self, device: usize, receipt: Receipt) {
        self.delivered(device, receipt.conn, receipt.number);
        self.ledger.devices[device].got.push(receipt);
        let ledger = &self.ledger;
        let verdicts = [
            p3_exactly_once::received(ledger, device, &receipt, self.exact),
            p4_order::received(ledger, device, &receipt),
            shared::received(ledger, &receipt),
            expiry::received(ledger, device, &receipt, self.exact),
        ];
        let sent = &mut self.ledger.sent[receipt.number as usize];
        let own =
            |to: &&mut crate::ledger::Target| to.device == device && to.session == receipt.session;
        if let Some(target) = sent.to.iter_mut().find(own) {
            target.got = true;
        }
        for verdict in verdicts {
            self.find(verdict);
        }
    }

    /// A message has come over any connection.
    pub(crate) fn delivered(&mut self, device: usize, conn: ConnId, number: u32) {
        self.find(p5_one_owner::delivered(&self.ledger, device, conn, number));
    }

    /// A connection with a will is over; it worked until then at least.
    pub(crate) fn will(&mut self, number: u32, fate: Fate, until: u64) {
        let topic = self.ledger.sent[number as usize].topic;
        let targets = self.ledger.targets(topic, until);
        let sent = &mut self.ledger.sent[number as usize];
        if matches!(sent.kind, Kind::Will(Fate::Open | Fate::Unclear)) {
            sent.kind = Kind::Will(fate);
            if fate == Fate::Due {
                // Whoever has it already got it from a group that knew before the device did.
                sent.to = targets;
                for target in &mut sent.to {
                    let got = &self.ledger.devices[target.device].got;
                    target.got = got.iter().any(|it| it.number == number);
                }
            }
        }
    }

    /// A member applies an entry.
    pub(crate) fn applies(&mut self, (group, member): (usize, usize), index: u64, hash: u64) {
        let verdict = self.applied.applies(group, member, index, hash);
        self.find(verdict);
    }

    /// What is stored of a device that has resumed its session, through the proxy of this name.
    pub(crate) fn records(
        &mut self,
        filters: &[String],
        device: usize,
        (node, record): (&str, Option<&Record>),
    ) {
        self.find(records::at_end(
            &self.ledger,
            filters,
            device,
            (node, record),
        ));
    }

    /// What two ways to a group's state have come to.
    pub(crate) fn compares(&mut self, group: usize, names: (&str, &str), states: (&[u8], &[u8])) {
        self.find(agreement::at_end(group, names, states));
    }

    /// Everybody is back, and has had time.
    pub(crate) fn at_end(
        &mut self,
        lives: impl Fn(usize, u32) -> bool,
        works: impl Fn(ConnId) -> bool,
    ) {
        self.find(p2_nothing_lost::at_end(&self.ledger));
        self.find(shared::at_end(&self.ledger));
        self.find(wills_once::at_end(&self.ledger, lives, works, self.exact));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use protocol::QoS;

    const SECOND: u64 = 1_000_000;

    /// The oracle of a world with so many devices, whose sessions end after 25 s.
    fn oracle(devices: usize) -> (Judge, Names) {
        let mut plan = Plan::of_seed(&mut Rng::new(0));
        plan.devices = vec![plan.devices[0]; devices];
        for device in &mut plan.devices {
            device.expiry_s = Some(25);
        }
        (plan.long_outages, plan.clock_jumps) = (false, false);
        let names = Names::new(&plan.brokers(), devices);
        (Judge::new(&plan, &names), names)
    }

    fn message(judge: &Judge, topic: usize, qos: QoS) -> Sent {
        Sent {
            device: 0,
            conn: 0,
            topic,
            qos,
            retain: false,
            expiry_s: None,
            kind: Kind::Publish,
            acked_at: Some(0),
            to: judge.ledger.targets(topic, 0),
            shared: judge.ledger.shared(topic, 0),
        }
    }

    /// Device 0 has a session of 25 s, lost its connection at 0, was promised a message, and then sent a CONNECT that had
    /// no answer. At `now` it is told `present`, and then everybody is done.
    fn verdict(now: u64, present: bool) -> Option<&'static str> {
        let (mut judge, _) = oracle(1);
        judge.ledger.grant(0, 0, 0, QoS::AtLeastOnce);
        judge.sent(message(&judge, 0, QoS::AtLeastOnce));
        let known = Known::Some {
            left: Some(Left {
                at: 0,
                tried_at: Some(10 * SECOND),
            }),
        };
        judge.connected(now, 0, (1, Epoch(1)), (known, false, present));
        judge.at_end(|_, _| true, |_| true);
        judge.violation().map(|violation| violation.invariant)
    }

    #[test]
    fn a_connect_without_an_answer_excuses_nothing_before_its_session_may_be_over() {
        let (soon, late) = (20 * SECOND, 30 * SECOND);
        assert_eq!(verdict(soon, true), Some(p2_nothing_lost::NAME));
        assert_eq!(verdict(soon, false), Some(expiry::NAME));
        // The session may have expired, and that CONNECT may have made another one.
        assert_eq!(verdict(late, true), None);
        assert_eq!(verdict(late, false), None);
    }

    /// Two devices share a subscription, a message goes to it at QoS 2, and these get it. `unsubscribes`: the first one does
    /// before its session ends.
    fn shared_verdict(got_by: &[usize], unsubscribes: bool) -> Option<&'static str> {
        let (mut judge, names) = oracle(2);
        let mut topics = 0..names.topics.len();
        let shared = |topic: usize| Some((topic, names.shared_by(topic)?));
        let (topic, filter) = topics.find_map(shared).expect("there are some");
        for device in 0..2 {
            judge.ledger.may_grant(device, filter, QoS::ExactlyOnce);
            judge.ledger.grant(0, device, filter, QoS::ExactlyOnce);
        }
        let number = judge.sent(message(&judge, topic, QoS::ExactlyOnce));
        for device in got_by {
            let receipt = Receipt {
                number,
                session: 0,
                conn: 0,
                qos: QoS::ExactlyOnce,
                dup: false,
                retain: false,
            };
            judge.received(*device, receipt);
        }
        if unsubscribes {
            judge.ledger.withdraw(0, filter);
            judge.ledger.end_session(0);
        }
        judge.at_end(|_, _| true, |_| true);
        judge.violation().map(|violation| violation.invariant)
    }

    /// Two messages are promised to a device, which gets the second one first; `anew`: in another session.
    fn order_verdict(anew: bool) -> Option<&'static str> {
        let (mut judge, _) = oracle(1);
        judge.ledger.grant(0, 0, 0, QoS::AtLeastOnce);
        let numbers = [0, 1].map(|_| judge.sent(message(&judge, 0, QoS::AtLeastOnce)));
        if anew {
            judge.ledger.end_session(0);
        }
        for number in numbers.into_iter().rev() {
            let receipt = Receipt {
                number,
                session: u32::from(anew),
                conn: 0,
                qos: QoS::AtLeastOnce,
                dup: false,
                retain: false,
            };
            judge.received(0, receipt);
        }
        judge.violation().map(|violation| violation.invariant)
    }

    #[test]
    fn a_session_relies_on_the_order_of_what_it_was_promised_itself() {
        assert_eq!(order_verdict(false), Some(p4_order::NAME));
        assert_eq!(order_verdict(true), None);
    }

    #[test]
    fn one_member_of_a_shared_subscription_gets_a_message() {
        assert_eq!(shared_verdict(&[1], false), None);
        assert_eq!(shared_verdict(&[], false), Some(shared::NAME));
        assert_eq!(shared_verdict(&[0, 1], false), Some(shared::NAME));
        // It may have taken the message along.
        assert_eq!(shared_verdict(&[], true), None);
    }
}
