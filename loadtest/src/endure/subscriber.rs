//! A subscriber's half of its session: which `QoS` 2 messages it has and has not seen released.

use std::collections::HashMap;

use crate::wire::{self, kind};

/// What a PUBLISH meant to the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// A message.
    Message,
    /// A `QoS` 2 message that it has already and whose PUBREC was on its way: not shown again.
    Known,
}

/// The session of one subscriber. Packet ids bound it: 65,535 entries.
#[derive(Debug, Default)]
pub(crate) struct Subscriber {
    qos: u8,
    pub(crate) subscribed: bool,
    /// `QoS` 2: packet ids with PUBREC and without PUBREL: message and connection.
    received: HashMap<u16, (u64, u64)>,
    connection: u64,
}

impl Subscriber {
    /// Not subscribed yet.
    pub(crate) fn new(qos: u8) -> Self {
        Self {
            qos,
            ..Self::default()
        }
    }

    /// A connection is up; a lost session takes the client's state with it.
    pub(crate) fn begin(&mut self, session_lost: bool) {
        self.connection += 1;
        if session_lost {
            self.received.clear();
            self.subscribed = false;
        }
    }

    /// `QoS` 2 messages that wait for their PUBREL.
    pub(crate) fn unreleased(&self) -> usize {
        self.received.len()
    }

    /// Message `number` came with packet id `id`; `first` is the packet's first byte. Answers at
    /// once. An error: a broker must not send it.
    pub(crate) fn publish(
        &mut self,
        first: u8,
        id: u16,
        number: u64,
        out: &mut Vec<u8>,
    ) -> Result<Arrival, &'static str> {
        if (first >> 1) & 0b11 != self.qos {
            return Err("PUBLISH at another QoS than published and granted");
        }
        if id == 0 {
            return Err("PUBLISH with packet id 0");
        }
        if self.qos == 1 {
            wire::ack(out, kind::PUBACK, id);
            return Ok(Arrival::Message);
        }
        let open = self.received.insert(id, (number, self.connection));
        match open {
            Some((other, _)) if other != number => {
                return Err("packet id used for another message before its PUBREL");
            }
            Some((_, connection)) if connection == self.connection => {
                return Err("QoS 2 PUBLISH sent again on one connection");
            }
            Some(_) if first & wire::DUP == 0 => {
                return Err("QoS 2 PUBLISH sent again without DUP");
            }
            _ => {}
        }
        wire::ack(out, kind::PUBREC, id);
        Ok(match open {
            Some(_) => Arrival::Known,
            None => Arrival::Message,
        })
    }

    /// PUBREL came; one whose PUBCOMP was lost is answered again.
    pub(crate) fn release(&mut self, id: u16, out: &mut Vec<u8>) -> Result<(), &'static str> {
        if self.qos != 2 {
            return Err("PUBREL to a QoS 1 subscription");
        }
        self.received.remove(&id);
        wire::ack(out, kind::PUBCOMP, id);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QOS_2: u8 = kind::PUBLISH | 0b100;
    const AGAIN: u8 = QOS_2 | wire::DUP;

    fn subscriber() -> Subscriber {
        let mut subscriber = Subscriber::new(2);
        subscriber.begin(false);
        subscriber
    }

    #[test]
    fn qos_2_state_outlives_the_connection() {
        let (mut subscriber, mut out) = (subscriber(), Vec::new());
        assert_eq!(
            subscriber.publish(QOS_2, 7, 0, &mut out),
            Ok(Arrival::Message)
        );
        subscriber.begin(false);
        assert_eq!(
            subscriber.publish(AGAIN, 7, 0, &mut out),
            Ok(Arrival::Known)
        );
        subscriber.release(7, &mut out).expect("QoS 2");
        assert_eq!(subscriber.unreleased(), 0);
        subscriber.begin(false);
        subscriber.release(7, &mut out).expect("PUBCOMP was lost");
        assert_eq!(
            subscriber.publish(QOS_2, 7, 1, &mut out),
            Ok(Arrival::Message)
        );
        let types: Vec<u8> = out.chunks(4).map(|packet| packet[0]).collect();
        let (rec, comp) = (kind::PUBREC, kind::PUBCOMP);
        assert_eq!(types, [rec, rec, comp, comp, rec]);
    }

    #[test]
    fn what_a_broker_must_not_do_is_named() {
        let mut out = Vec::new();
        let mut s = subscriber();
        s.publish(QOS_2, 7, 0, &mut out).expect("new");
        assert!(s.publish(AGAIN, 7, 0, &mut out).is_err(), "one connection");
        s.begin(false);
        assert!(s.publish(QOS_2, 7, 0, &mut out).is_err(), "without DUP");
        s.begin(false);
        assert!(s.publish(AGAIN, 7, 1, &mut out).is_err(), "another message");
        assert!(
            s.publish(kind::PUBLISH | 0b10, 8, 2, &mut out).is_err(),
            "QoS 1"
        );
        assert!(s.publish(QOS_2, 0, 2, &mut out).is_err(), "packet id 0");
        assert!(Subscriber::new(1).release(7, &mut out).is_err());
    }

    #[test]
    fn a_lost_session_takes_the_state_with_it() {
        let (mut s, mut out) = (subscriber(), Vec::new());
        s.subscribed = true;
        s.publish(QOS_2, 7, 0, &mut out).expect("new");
        s.begin(true);
        assert!(!s.subscribed);
        assert_eq!(s.publish(QOS_2, 7, 1, &mut out), Ok(Arrival::Message));
    }
}
