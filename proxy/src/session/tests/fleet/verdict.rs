//! What must hold when everybody has come back, and then has gone.

use super::world::{DEVICES, Fleet, PROXIES};
use protocol::QoS;
use std::collections::{BTreeMap, BTreeSet};

impl Fleet {
    /// Everybody comes back and answers everything; then every promise must have been kept, and when all sessions end
    /// nothing is left of them anywhere.
    pub(super) fn finish(&mut self) {
        self.settle();
        for device in 0..DEVICES {
            self.come_back(device);
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
        assert!(self.kept_is_done());
        self.check();
        for device in 0..DEVICES {
            self.connect(device, 0, true, 0);
            self.settle();
            assert!(self.devices[device].connected, "device {device}");
            self.disconnect(device);
        }
        for _ in 0..3 {
            self.flow();
            self.wait(broker::limits::ERRANDS_AGAIN_MS);
            self.all_up();
        }
        for broker in &self.brokers {
            let counters = broker.leader.state().counters();
            let held = [counters.guests, counters.ends_pending, counters.sessions];
            assert_eq!(held, [0; 3], "{counters:?}");
            assert_eq!([counters.messages, counters.entries], [0; 2]);
            assert!(!broker.leader.state().has_errands());
        }
    }

    /// A connection may still end for what happened before, and the next one is a device's again.
    pub(super) fn come_back(&mut self, device: usize) {
        for _ in 0..3 {
            if !self.devices[device].connected {
                self.connect(device, device % PROXIES, false, u32::MAX);
            }
            self.settle();
        }
        assert!(self.devices[device].connected, "device {device}");
    }

    fn check(&self) {
        for promise in self.promises.iter().filter(|p| p.acknowledged) {
            for (number, session, granted) in &promise.to {
                let device = &self.devices[*number];
                if device.session != *session {
                    continue;
                }
                let payload = &promise.payload;
                let times = device.got.iter().filter(|got| *got == payload).count();
                assert!(times > 0, "{payload} is lost to {number}");
                let once = promise.qos.min(*granted) == QoS::ExactlyOnce;
                assert!(!once || times == 1, "{payload} came {times} times");
            }
        }
        for refused in self.devices.iter().flat_map(|device| &device.refused) {
            let mut devices = self.devices.iter();
            let stored = devices.any(|device| device.got.contains(refused));
            assert!(!stored, "{refused} was refused, and delivered");
        }
        for (number, device) in self.devices.iter().enumerate() {
            // First receipts, by publisher, topic and QoS: the rest of the payload. What was published before SUBACK may
            // have been received by the group for nobody, and then come as new when its publisher sends it again.
            let mut newest: BTreeMap<&str, &str> = BTreeMap::new();
            let promised = self.promises.iter();
            let promised = promised.filter(|p| p.to.iter().any(|(to, ..)| *to == number));
            let mut left: BTreeSet<&str> = promised.map(|p| p.payload.as_str()).collect();
            for got in device.got.iter().filter(|got| left.remove(got.as_str())) {
                let (count, flow) = got.split_once(' ').expect("made so");
                let before = newest.insert(flow, count);
                assert!(before.is_none_or(|before| before < count), "{got} is late");
            }
        }
    }
}
