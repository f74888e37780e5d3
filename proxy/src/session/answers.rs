//! PUBACK and PUBREC owed to one client, in the order of its publishes (MQTT-4.6.0-2, MQTT-4.6.0-3).

use protocol::{PacketId, QoS, ReasonCode};
use std::collections::VecDeque;

/// One PUBLISH that has no answer yet, or whose answer waits for those before it.
#[derive(Clone, Copy, Debug)]
struct Owed {
    packet_id: PacketId,
    qos: QoS,
    answer: Option<ReasonCode>,
    bytes: u32,
    /// The second in which it was read.
    since_s: u32,
}

/// An answer whose turn it is. It has left the list, so it must be written.
#[must_use = "the client waits for this PUBACK or PUBREC"]
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OwedAnswer {
    pub(crate) packet_id: PacketId,
    pub(crate) qos: QoS,
    pub(crate) reason: ReasonCode,
}

/// The answers owed. Bounded by the receive maximum: past it no more is read.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    queue: VecDeque<Owed>,
    /// Bytes of the publishes without an answer from the group.
    open_bytes: u32,
}

impl Answers {
    /// A PUBLISH of `bytes` bytes, read in second `since_s`, went to the group.
    pub(crate) fn owe(&mut self, packet_id: PacketId, qos: QoS, bytes: u32, since_s: u32) {
        self.queue.push_back(Owed {
            packet_id,
            qos,
            answer: None,
            bytes,
            since_s,
        });
        self.open_bytes += bytes;
    }

    /// A PUBLISH is answered without the group, in its turn.
    pub(crate) fn owe_settled(&mut self, packet_id: PacketId, qos: QoS, reason: ReasonCode) {
        self.queue.push_back(Owed {
            packet_id,
            qos,
            answer: Some(reason),
            bytes: 0,
            since_s: u32::MAX,
        });
    }

    /// The second in which the oldest PUBLISH was read whose answer has not left. (The one in front has none from its
    /// group: otherwise it would have left.)
    pub(crate) fn oldest_s(&self) -> Option<u32> {
        self.queue.front().map(|owed| owed.since_s)
    }

    /// The group answered. `false`: no such PUBLISH is open.
    pub(crate) fn settle(&mut self, packet_id: PacketId, qos: QoS, reason: ReasonCode) -> bool {
        let open = |owed: &&mut Owed| {
            owed.packet_id == packet_id && owed.qos == qos && owed.answer.is_none()
        };
        let Some(owed) = self.queue.iter_mut().find(open) else {
            return false;
        };
        owed.answer = Some(reason);
        self.open_bytes -= owed.bytes;
        true
    }

    /// The next answer, if the oldest PUBLISH has one.
    pub(crate) fn next(&mut self) -> Option<OwedAnswer> {
        let &Owed {
            packet_id,
            qos,
            answer,
            ..
        } = self.queue.front()?;
        let reason = answer?;
        self.queue.pop_front();
        Some(OwedAnswer {
            packet_id,
            qos,
            reason,
        })
    }

    /// Publishes whose answer has not left.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Bytes of publishes the group has not answered.
    pub(crate) fn open_bytes(&self) -> u32 {
        self.open_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u16) -> PacketId {
        PacketId::new(n).expect("not zero")
    }

    #[test]
    fn answers_leave_in_the_order_of_the_publishes() {
        let mut answers = Answers::default();
        answers.owe(id(1), QoS::AtLeastOnce, 10, 0);
        answers.owe(id(2), QoS::ExactlyOnce, 20, 0);
        answers.owe_settled(id(3), QoS::AtLeastOnce, ReasonCode::TopicNameInvalid);
        assert_eq!(answers.open_bytes(), 30);
        assert!(answers.settle(id(2), QoS::ExactlyOnce, ReasonCode::Success));
        assert_eq!(answers.next(), None, "the first is still open");
        assert!(answers.settle(id(1), QoS::AtLeastOnce, ReasonCode::Success));
        let order: Vec<_> = std::iter::from_fn(|| answers.next())
            .map(|answer| answer.packet_id.get())
            .collect();
        assert_eq!(order, [1, 2, 3]);
        assert_eq!((answers.len(), answers.open_bytes()), (0, 0));
    }

    #[test]
    fn an_answer_for_nothing_is_told_apart() {
        let mut answers = Answers::default();
        answers.owe(id(1), QoS::AtLeastOnce, 10, 0);
        assert!(!answers.settle(id(1), QoS::ExactlyOnce, ReasonCode::Success));
        assert!(answers.settle(id(1), QoS::AtLeastOnce, ReasonCode::Success));
        assert!(!answers.settle(id(1), QoS::AtLeastOnce, ReasonCode::Success));
    }
}
