//! What must hold when everybody has come back.

use super::{DEVICES, Fleet, PROXIES};
use crate::leader::KICK_WAIT_MS;
use protocol::QoS;
use std::collections::{BTreeMap, BTreeSet};

impl Fleet {
    /// Everybody comes back and answers everything; then every promise must have been kept.
    pub(in crate::leader::tests) fn finish(&mut self) {
        for proxy in 0..PROXIES {
            self.up(proxy);
        }
        self.flow();
        self.broker.wait(KICK_WAIT_MS);
        self.flow();
        for device in 0..DEVICES {
            if self.actor(device).is_none() {
                self.connect(device, device % PROXIES);
                self.flow();
                self.broker.wait(KICK_WAIT_MS);
                self.flow();
                assert!(self.actor(device).is_some(), "the claim is answered");
            }
        }
        let mut answered = true;
        while answered {
            let answers = (0..DEVICES).map(|device| self.answer(device));
            answered = answers.filter(|answered| *answered).count() > 0;
            self.flow();
        }
        for device in &self.devices {
            assert!(device.outgoing.is_empty(), "{:?}", device.outgoing);
            assert_eq!(device.asked, None, "SUBACK is owed");
        }
        for proxy in &self.proxies {
            assert!(proxy.kept.is_empty(), "not done: {:?}", proxy.kept);
        }
        let counters = self.broker.leader.state().counters();
        assert_eq!((counters.entries, counters.messages), (0, 0));
        self.check();
    }

    fn check(&self) {
        for promise in self.promises.iter().filter(|p| p.acknowledged) {
            let stored = |(_, granted): &&(usize, QoS)| *granted > QoS::AtMostOnce;
            for (device, granted) in promise.to.iter().filter(stored) {
                let got = &self.devices[*device].got;
                let times = got.iter().filter(|got| **got == promise.payload).count();
                assert!(times > 0, "{} is lost to {device}", promise.payload);
                let once = promise.qos.min(*granted) == QoS::ExactlyOnce;
                assert!(
                    !once || times == 1,
                    "{} came {times} times",
                    promise.payload
                );
            }
        }
        for (number, device) in self.devices.iter().enumerate() {
            // First receipts, by publisher, topic and QoS: the rest of the payload. What was published before SUBACK may
            // have been received by the group for nobody, and then come as new when its publisher sends it again.
            let mut newest: BTreeMap<&str, &str> = BTreeMap::new();
            let promised = self.promises.iter();
            let promised = promised.filter(|p| p.to.iter().any(|(to, _)| *to == number));
            let mut left: BTreeSet<&str> = promised.map(|p| p.payload.as_str()).collect();
            for got in device.got.iter().filter(|got| left.remove(got.as_str())) {
                let (count, flow) = got.split_once(' ').expect("made so");
                let before = newest.insert(flow, count);
                assert!(before.is_none_or(|before| before < count), "{got} is late");
            }
        }
    }
}
