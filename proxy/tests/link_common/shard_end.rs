//! A shard by script: it keeps to what a shard owes its link, and looks closely at what it gets.

use super::{PATIENCE, SECRET, frames, known};
use cluster::frame::{Body, Delivery, FromGroup, Reattach, Resume, ToGroup};
use cluster::ids::{Actor, Handle};
use cluster::mailbag::Wake;
use cluster::slots::GroupNo;
use cluster::topology::SharedTopology;
use mqtt_fleet_proxy::link::GroupLink;
use mqtt_fleet_proxy::link_client::{LinkClient, LinkClientConfig};
use protocol::{Message, PacketId, QoS};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

/// A link client's configuration for a broker there.
pub(crate) fn config(broker: String) -> LinkClientConfig {
    LinkClientConfig {
        topology: SharedTopology::new(known(1, &[(GroupNo(0), broker)])),
        group: GroupNo(0),
        name: "proxy-a".into(),
        node: 0x8000_0001,
        incarnation: 4711,
        secret: Arc::from(SECRET),
        tls: None,
    }
}

/// Length of a payload.
const MESSAGE_BYTES: usize = 64;

/// A connected client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    pub(crate) actor: Actor,
    pub(crate) handle: Handle,
}

/// What a client has received.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) handle: Handle,
    pub(crate) message: Message,
    pub(crate) qos: QoS,
    pub(crate) dup: bool,
}

pub(crate) struct ShardEnd {
    pub(crate) link: Arc<GroupLink>,
    bell: Receiver<()>,
    sessions: HashMap<Handle, Reattach>,
    /// Frames that no call has asked for yet.
    pub(crate) frames: VecDeque<FromGroup>,
    pub(crate) resumes: u64,
    handles: u32,
    ids: u16,
}

impl ShardEnd {
    /// The next shard of `client`.
    pub(crate) fn new(client: &mut LinkClient) -> Self {
        let (ring, bell) = sync_channel(1);
        let wake = move || -> Wake {
            let ring = ring.clone();
            Box::new(move || {
                let _full_is_fine = ring.try_send(());
            })
        };
        let link = client
            .link_waking(wake)
            .expect("the kernel has random bytes");
        Self {
            link,
            bell,
            sessions: HashMap::new(),
            frames: VecDeque::new(),
            resumes: 0,
            handles: 0,
            ids: 0,
        }
    }

    pub(crate) fn send(&self, mut frames: Vec<ToGroup>) {
        let bytes = frames.len() * 100;
        self.link.to_group.send(&mut frames, bytes);
    }

    /// Takes what has come, and answers what the link asks. Whether anything had come.
    pub(crate) fn look(&mut self) -> bool {
        let mut batch = Vec::new();
        self.link.to_shard.take(&mut batch);
        let any = !batch.is_empty();
        for frame in batch {
            match frame {
                FromGroup::Resume => {
                    self.resumes += 1;
                    let sessions = self.sessions.values().copied().collect();
                    self.send(vec![ToGroup::Resume(Box::new(Resume {
                        sessions,
                        ..Resume::default()
                    }))]);
                }
                frame => {
                    self.note(&frame);
                    self.frames.push_back(frame);
                }
            }
        }
        any
    }

    fn note(&mut self, frame: &FromGroup) {
        match frame {
            FromGroup::Claimed(claimed) => {
                let reattach = Reattach {
                    actor: Actor {
                        client: claimed.client,
                        epoch: claimed.epoch,
                    },
                    handle: claimed.handle,
                    last: None,
                };
                self.sessions.entry(claimed.handle).or_insert(reattach);
            }
            FromGroup::Deliver(delivery) => self.note_last(delivery),
            FromGroup::Kick { handle, .. } => {
                self.sessions.remove(handle);
                self.send(vec![ToGroup::Kicked { handle: *handle }]);
            }
            _ => {}
        }
    }

    fn note_last(&mut self, delivery: &Delivery) {
        for receiver in &delivery.receivers {
            if let Some(session) = self.sessions.get_mut(&receiver.handle)
                && receiver.packet_id.is_some()
            {
                session.last = receiver.packet_id;
            }
        }
    }

    /// Sleeps until something comes; not longer than the test's patience.
    pub(crate) fn wait(&mut self, what: &str) {
        if self.link.to_shard.prepare_sleep() {
            self.bell
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("in vain for {what}"));
        }
        self.link.to_shard.awake();
        self.look();
    }

    /// Waits for the first frame that `want` takes; others stay for later.
    pub(crate) fn expect<T>(
        &mut self,
        what: &str,
        mut want: impl FnMut(&FromGroup) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut found = self.frames.iter().enumerate();
            if let Some((at, wanted)) = found.find_map(|(at, f)| Some((at, want(f)?))) {
                self.frames.remove(at);
                return wanted;
            }
            assert!(Instant::now() < deadline, "in vain for {what}");
            self.wait(what);
        }
    }

    /// A connected client with a session that does not expire.
    pub(crate) fn connect(&mut self, id: &str) -> Client {
        self.handles += 1;
        let handle = Handle {
            index: self.handles,
            generation: 0,
        };
        self.send(vec![frames::claim(handle, id)]);
        let (actor, _) = self.expect("Claimed", |frame| frames::claimed(frame, handle));
        Client { actor, handle }
    }

    pub(crate) fn disconnect(&mut self, client: Client) {
        self.sessions.remove(&client.handle);
        self.send(vec![frames::disconnect(client.actor)]);
    }

    pub(crate) fn subscribe(&mut self, client: Client, filter: &str, qos: QoS) {
        let packet_id = self.packet_id();
        self.send(vec![frames::subscribe(
            client.actor,
            packet_id,
            filter,
            qos,
        )]);
        self.expect("Subscribed", |frame| {
            frames::is_subscribed(frame, packet_id, qos)
        });
    }

    /// A publish; its packet id is one of few.
    pub(crate) fn publish(
        &mut self,
        client: Client,
        topic: &str,
        number: u32,
        qos: QoS,
    ) -> ToGroup {
        let packet_id = qos.has_packet_id().then(|| self.packet_id());
        let message = frames::message(topic, number, MESSAGE_BYTES);
        frames::publish(client.actor, packet_id, (qos, false), message)
    }

    /// The oldest thing that came to a subscriber or publisher.
    pub(crate) fn next(&mut self, what: &str) -> FromGroup {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return frame;
            }
            assert!(Instant::now() < deadline, "in vain for {what}");
            self.wait(what);
        }
    }

    /// What a delivery brings to its receivers, and the acknowledgements that are due.
    pub(crate) fn take(&mut self, delivery: &Delivery) -> Vec<Got> {
        let Body::Inline(message) = &delivery.body else {
            panic!("{delivery:?} has left the group without its body");
        };
        let mut got = Vec::new();
        let mut acks = Vec::new();
        for receiver in &delivery.receivers {
            if let Some(packet_id) = receiver.packet_id {
                let session = self.sessions[&receiver.handle];
                acks.push(frames::ack(session.actor, packet_id));
            }
            got.push(Got {
                handle: receiver.handle,
                message: message.clone(),
                qos: receiver.qos,
                dup: receiver.dup,
            });
        }
        self.send(acks);
        got
    }

    fn packet_id(&mut self) -> PacketId {
        self.ids = self.ids % 500 + 1;
        PacketId::new(self.ids).expect("not zero")
    }
}
