//! The clerk keeps retained messages and subscriptions, and looks after each crash whether all are there.

use std::collections::BTreeMap;

use crate::common::{
    Client, Connect, Dice, Got, PATIENCE, Packet, Props, Publish, Version, prop, wire,
};
use crate::stage::{Phase, Stage};

const TOPICS: u64 = 40;

/// A value as acknowledged, and one that was sent but not answered.
#[derive(Default)]
struct Kept {
    acked: Option<u64>,
    /// Packet id and value; an empty message (removal) is `None`.
    open: Option<(u16, Option<u64>)>,
}

struct Clerk {
    dice: Dice,
    kept: BTreeMap<String, Kept>,
    value: u64,
    /// Clients with a persistent session and one acknowledged subscription.
    subscribed: Vec<u64>,
    unsubscribed: Vec<u64>,
    next_client: u64,
    known: bool,
}

pub(crate) fn run(stage: &Stage, seed: u64) {
    let mut clerk = Clerk {
        dice: Dice::seeded(seed),
        kept: BTreeMap::new(),
        value: 0,
        subscribed: Vec::new(),
        unsubscribed: Vec::new(),
        next_client: 0,
        known: false,
    };
    let connect = Connect::v5("clerk").persistent().keep_alive(0);
    let mut failed = 0;
    while let Some(generation) = stage.await_up(failed) {
        failed = generation;
        let Some(mut client) = connect.dial(stage.addr) else {
            continue;
        };
        assert!(
            client.present || !clerk.known,
            "session present is 0 after a CONNACK was seen"
        );
        clerk.known = true;
        if clerk.shift(stage, &mut client).is_some() {
            return;
        }
    }
}

impl Clerk {
    /// Works until the broker dies (`None`) or the rounds are over.
    fn shift(&mut self, stage: &Stage, client: &mut Client) -> Option<()> {
        self.settle(client)?;
        self.look_at_retained(stage)?;
        self.look_at_sessions(stage, client)?;
        while stage.phase() == Phase::Working {
            if self.dice.one_in(5) {
                self.change_subscription(stage)?;
            } else {
                self.change_retained(client)?;
            }
        }
        self.look_at_retained(stage)?;
        self.look_at_sessions(stage, client)
    }

    fn change_retained(&mut self, client: &mut Client) -> Option<()> {
        let topic = format!("kept/{}", self.dice.below(TOPICS));
        self.value += 1;
        let value = (!self.dice.one_in(6)).then_some(self.value);
        let id = client.fresh_id();
        self.kept.entry(topic.clone()).or_default().open = Some((id, value));
        client.try_send(&wire::publish(Version::V5, &retained(&topic, value).id(id)))?;
        self.await_ack(client, &topic)
    }

    /// Sends again what was not answered on the connection before.
    fn settle(&mut self, client: &mut Client) -> Option<()> {
        let open: Vec<(String, u16, Option<u64>)> = self
            .kept
            .iter()
            .filter_map(|(topic, k)| k.open.map(|(id, value)| (topic.clone(), id, value)))
            .collect();
        for (topic, id, value) in open {
            let again = retained(&topic, value).id(id).dup();
            client.try_send(&wire::publish(Version::V5, &again))?;
            self.await_ack(client, &topic)?;
        }
        Some(())
    }

    fn await_ack(&mut self, client: &mut Client, topic: &str) -> Option<()> {
        let kept = self.kept.get_mut(topic).expect("just sent");
        let (id, value) = kept.open.expect("just sent");
        match client.next(PATIENCE) {
            Got::Packet(Packet::PubAck { id: i, code }) if i == id && code < 0x80 => {
                kept.acked = value;
                kept.open = None;
                Some(())
            }
            Got::Closed => None,
            other => panic!("retained message was answered with {other:?}"),
        }
    }

    /// A newcomer gets exactly what was acknowledged.
    fn look_at_retained(&self, stage: &Stage) -> Option<()> {
        let mut fresh = Connect::v5("newcomer").keep_alive(0).dial(stage.addr)?;
        fresh.try_send(&wire::subscribe(
            Version::V5,
            1,
            &[("kept/#", 1)],
            &Props::new(),
        ))?;
        let mut expected: BTreeMap<String, u64> = self
            .kept
            .iter()
            .filter_map(|(t, k)| Some((t.clone(), k.acked?)))
            .collect();
        let mut acked = false;
        while !acked || !expected.is_empty() {
            match fresh.next(PATIENCE) {
                Got::Packet(Packet::SubAck { codes, .. }) => acked = codes == [1],
                Got::Packet(Packet::Publish(p)) => {
                    let value: u64 = p.text().parse().expect("a value");
                    let wanted = expected.remove(&p.topic);
                    assert_eq!(wanted, Some(value), "retained at {}", p.topic);
                    fresh.try_send(&wire::ack(wire::PUBACK, p.id))?;
                }
                Got::Closed => return None,
                other => panic!(
                    "{} retained messages are missing ({other:?}): {expected:?}",
                    expected.len()
                ),
            }
        }
        Some(())
    }

    /// Adds a session with a subscription, or takes one's subscription away.
    fn change_subscription(&mut self, stage: &Stage) -> Option<()> {
        if self.subscribed.len() > 5 && self.dice.one_in(3) {
            let at = self.dice.below(self.subscribed.len() as u64) as usize;
            // Whether it is still subscribed is not known until UNSUBACK: it counts as neither until then.
            let number = self.subscribed.swap_remove(at);
            let mut client = owner(number).dial(stage.addr)?;
            assert!(client.present, "session {number} is gone");
            client.try_send(&wire::unsubscribe(Version::V5, 1, &private(number)))?;
            // A message may come again before: the broker died with its PUBACK in hand.
            let wanted = |p: &Packet| match p {
                Packet::UnsubAck { codes, .. } => codes == &[0],
                Packet::Publish(again) => again.dup,
                _ => false,
            };
            while let Packet::Publish(again) = await_packet(&mut client, wanted)? {
                client.try_send(&wire::ack(wire::PUBACK, again.id))?;
            }
            self.unsubscribed.push(number);
        } else {
            self.next_client += 1;
            let number = self.next_client;
            let mut client = owner(number).dial(stage.addr)?;
            let filter = private(number);
            client.try_send(&wire::subscribe(
                Version::V5,
                1,
                &[(&filter, 1)],
                &Props::new(),
            ))?;
            await_packet(
                &mut client,
                |p| matches!(p, Packet::SubAck { codes, .. } if codes == &[1]),
            )?;
            self.subscribed.push(number);
        }
        Some(())
    }

    /// A few of the sessions are tried: they are present and have the subscriptions they were promised.
    fn look_at_sessions(&mut self, stage: &Stage, client: &mut Client) -> Option<()> {
        for _ in 0..3.min(self.subscribed.len()) {
            let number = self.subscribed[self.dice.below(self.subscribed.len() as u64) as usize];
            let mut session = owner(number).dial(stage.addr)?;
            assert!(session.present, "session {number} is gone");
            self.value += 1;
            let text = self.value.to_string();
            let code = tell(client, number, &text)?;
            assert_eq!(code, 0, "the subscription of session {number} is gone");
            // An older one may stand before it: its PUBACK may have died with the broker.
            loop {
                let packet = await_packet(&mut session, |p| matches!(p, Packet::Publish(_)))?;
                let Packet::Publish(p) = packet else {
                    panic!("{packet:?} is no PUBLISH")
                };
                session.try_send(&wire::ack(wire::PUBACK, p.id))?;
                if p.text() == text {
                    break;
                }
            }
        }
        for _ in 0..2.min(self.unsubscribed.len()) {
            let number =
                self.unsubscribed[self.dice.below(self.unsubscribed.len() as u64) as usize];
            let code = tell(client, number, "unwanted")?;
            assert_eq!(code, 0x10, "session {number} has unsubscribed");
        }
        Some(())
    }
}

fn retained(topic: &str, value: Option<u64>) -> Publish {
    Publish::new(topic, 1, value.map_or(String::new(), |v| v.to_string())).retain()
}

fn owner(number: u64) -> Connect {
    Connect::v5(&format!("owner-{number}"))
        .resume()
        .keep_alive(0)
        .prop_four(prop::SESSION_EXPIRY, 3600)
}

fn private(number: u64) -> String {
    format!("private/{number}")
}

/// Publishes to a session's own topic; the reason code of PUBACK.
fn tell(client: &mut Client, number: u64, text: &str) -> Option<u8> {
    let id = client.fresh_id();
    let p = Publish::new(&private(number), 1, text).id(id);
    client.try_send(&wire::publish(Version::V5, &p))?;
    match await_packet(
        client,
        |p| matches!(p, Packet::PubAck { id: i, .. } if *i == id),
    )? {
        Packet::PubAck { code, .. } => Some(code),
        other => panic!("{other:?} is no PUBACK"),
    }
}

/// The next packet, which must be as `wanted`; `None` when the broker died.
fn await_packet(client: &mut Client, wanted: impl Fn(&Packet) -> bool) -> Option<Packet> {
    match client.next(PATIENCE) {
        Got::Packet(packet) if wanted(&packet) => Some(packet),
        Got::Closed => None,
        other => panic!("{} gets {other:?}", client.id),
    }
}
