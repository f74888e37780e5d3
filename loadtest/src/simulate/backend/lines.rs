//! The connections of the back end: sockets, packets, what leaves on them.

use mio::{Registry, Token};

use super::books::Books;
use super::client::{Client, Continued, End, Heard, Order};
use super::consumer::{Inbox, Receiver, Taken};
use super::plan::{Plan, Texts};
use super::sender::{Command, Sender};
use crate::account::{Full, Message, Resent, Stamp};
use crate::control::message::{FindingKind, LatencyKind, Presence, Receipt, Stream};
use crate::limits::{LATE, READ_BLOCK_BYTES, UNSENT_BYTES_MAX};
use crate::link::{Fetched, Link};
use crate::window::{Acked, Again, Window};
use crate::wire::{self, Packet, Publish, Scan, Version, kind};

/// What a connection is for.
#[derive(Debug)]
pub(super) enum Role {
    /// It receives, as one of a receiver's connections.
    Consumer { receiver: usize, inbox: Inbox },
    /// It sends commands of this number, those of one lane.
    Sender {
        commands: usize,
        lane: u32,
        window: Window<Command>,
    },
}

/// All connections, and what they have in common.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) plan: Plan,
    pub(super) clients: Vec<Client>,
    pub(super) roles: Vec<Role>,
    pub(super) receivers: Vec<Receiver>,
    pub(super) senders: Vec<Sender>,
    pub(super) books: Books,
    links: Vec<Link>,
    texts: Texts,
    block: Vec<u8>,
}

/// Why a packet was the last one.
enum Trouble {
    /// Of its connection.
    End(End),
    /// Of the run.
    Full(Full),
}

impl From<End> for Trouble {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

impl From<Full> for Trouble {
    fn from(full: Full) -> Self {
        Self::Full(full)
    }
}

impl Lines {
    /// No connection is up yet.
    pub(super) fn new(
        plan: Plan,
        (clients, roles): (Vec<Client>, Vec<Role>),
        receivers: Vec<Receiver>,
        senders: Vec<Sender>,
        books: Books,
    ) -> Self {
        let links = clients.iter().map(|_| Link::down()).collect();
        Self {
            plan,
            clients,
            roles,
            receivers,
            senders,
            books,
            links,
            texts: Texts::default(),
            block: vec![0; READ_BLOCK_BYTES],
        }
    }

    /// True once all connections are up.
    pub(super) fn all_up(&self) -> bool {
        self.clients.iter().all(Client::is_up)
    }

    /// Connections that are not up.
    pub(super) fn down(&self) -> u64 {
        let down = self.clients.iter().filter(|client| !client.is_up());
        down.count() as u64
    }

    /// True if no command is due, under way or owed.
    pub(super) fn is_quiet(&self) -> bool {
        let sending = self.senders.iter().any(Sender::is_active);
        let waiting = |role: &Role| matches!(role, Role::Sender { window, .. } if window.waits());
        !sending && !self.roles.iter().any(waiting) && self.books.ledger.owed() == 0
    }

    /// No command falls due any more.
    pub(super) fn stop_sending(&mut self, now_us: u64) {
        for sender in &mut self.senders {
            sender.end(now_us);
        }
    }

    /// Commands have arrived.
    pub(super) fn received(&mut self, receipts: &[Receipt], now_us: u64) {
        let Books {
            ledger, findings, ..
        } = &mut self.books;
        for receipt in receipts {
            ledger.received(receipt, now_us, findings);
        }
    }

    /// Devices can be sent to, or cannot any more.
    pub(super) fn presence(&mut self, presence: &[Presence], now_us: u64) {
        for known in presence {
            self.books.ledger.presence(known, now_us);
            for sender in &mut self.senders {
                sender.presence(known.device, known.subscribed);
            }
        }
    }

    /// Looks at all timers. `dial` says where the addresses are.
    pub(super) fn tick(
        &mut self,
        now_us: u64,
        registry: &Registry,
        targets: &[std::net::SocketAddr],
    ) -> Result<(), Full> {
        for index in 0..self.clients.len() {
            match self.clients[index].due(now_us, &mut self.links[index].out) {
                None => {}
                Some(Order::Write) => self.write(index, now_us)?,
                Some(Order::Lose(reason)) => self.lose(index, &End::allowed(reason), now_us),
                Some(Order::Dial(address)) => {
                    let link = &mut self.links[index];
                    self.clients[index].dialed(now_us, &mut link.out);
                    match link.dial(targets[address], None, registry, Token(index)) {
                        Ok(()) => self.write(index, now_us)?,
                        Err(error) => self.lose(index, &End::allowed(error.to_string()), now_us),
                    }
                }
            }
        }
        Ok(())
    }

    /// Sends what is due on all lanes.
    pub(super) fn send_due(&mut self, now_us: u64) -> Result<(), Full> {
        for sender in &mut self.senders {
            sender.advance(now_us);
        }
        for index in 0..self.roles.len() {
            if matches!(self.roles[index], Role::Sender { .. }) {
                self.write(index, now_us)?;
            }
        }
        Ok(())
    }

    /// A socket is ready. `ended`: the broker sends nothing more, which the last read is to find.
    pub(super) fn ready(&mut self, index: usize, ended: bool, now_us: u64) -> Result<(), Full> {
        self.write(index, now_us)?;
        // What a broker does not take, it is not asked to answer.
        while self.links[index].out.len() < UNSENT_BYTES_MAX {
            let (len, more) = match self.links[index].fetch(&mut self.block) {
                Ok(Fetched::Bytes { len, more }) => (len, more),
                Ok(Fetched::Nothing) => break,
                Ok(Fetched::Closed) => {
                    self.lose(index, &End::allowed("closed by the broker"), now_us);
                    break;
                }
                Err(error) => {
                    self.lose(index, &End::allowed(error.to_string()), now_us);
                    break;
                }
            };
            self.clients[index].heard(now_us);
            let block = std::mem::take(&mut self.block);
            let heard = self.hear_all(index, &block[..len], now_us);
            if let Ok(used) = heard {
                self.links[index].hold(&block[used..len]);
            }
            self.block = block;
            match heard {
                Ok(_) => {}
                Err(Trouble::End(end)) => {
                    self.lose(index, &end, now_us);
                    break;
                }
                Err(Trouble::Full(full)) => return Err(full),
            }
            self.write(index, now_us)?;
            if !more && !ended {
                break;
            }
        }
        Ok(())
    }

    /// All connections say goodbye, and take their sessions with them.
    pub(super) fn leave(&mut self, now_us: u64) -> Result<(), Full> {
        for index in 0..self.clients.len() {
            if self.clients[index].leave(&mut self.links[index].out) {
                self.write(index, now_us)?;
            } else {
                self.links[index].close();
            }
        }
        Ok(())
    }

    /// True once the broker has closed all connections.
    pub(super) fn all_closed(&self) -> bool {
        let down = |link: &Link| link.stage == crate::link::Stage::Down;
        self.links.iter().all(down)
    }

    /// How many bytes of whole packets there were.
    fn hear_all(&mut self, index: usize, bytes: &[u8], now_us: u64) -> Result<usize, Trouble> {
        let mut used = 0;
        loop {
            match wire::scan(&bytes[used..]) {
                Scan::Packet(packet) => {
                    used += packet.len;
                    self.hear(index, &packet, now_us)?;
                }
                Scan::Incomplete => return Ok(used),
                Scan::Malformed(reason) => return Err(End::violation(reason).into()),
            }
        }
    }

    fn hear(&mut self, index: usize, packet: &Packet<'_>, now_us: u64) -> Result<(), Trouble> {
        let out = &mut self.links[index].out;
        match self.clients[index].hear(packet, now_us, out)? {
            Heard::Little => Ok(()),
            Heard::Flow => self.flow(index, packet, now_us),
            Heard::Connected {
                receive_max,
                session,
            } => {
                let anew = matches!(session, Continued::Lost | Continued::Expired);
                match session {
                    Continued::AsPromised | Continued::Expired => {}
                    Continued::Lost => self.broken(FindingKind::SessionLost, index, now_us, ""),
                    Continued::Unexpected => {
                        self.broken(FindingKind::SessionUnexpected, index, now_us, "");
                    }
                }
                match &mut self.roles[index] {
                    Role::Consumer { inbox, .. } => inbox.begin(anew),
                    Role::Sender { window, .. } => window.begin(receive_max, anew),
                }
                Ok(())
            }
        }
    }

    /// PUBLISH and the acknowledgements.
    fn flow(&mut self, index: usize, packet: &Packet<'_>, now_us: u64) -> Result<(), Trouble> {
        let first = packet.first & 0xF0;
        let out = &mut self.links[index].out;
        let id = || wire::packet_id(packet.body).ok_or_else(|| End::violation("no packet id"));
        match (&mut self.roles[index], first) {
            (Role::Consumer { receiver, inbox }, kind::PUBLISH) => {
                let published = wire::published(packet, Version::V5).map_err(End::violation)?;
                let (taken, violation) = inbox.take(&published, out);
                if taken == Taken::Message {
                    let receiver = &mut self.receivers[*receiver];
                    let (plan, texts) = (&self.plan, &mut self.texts);
                    receiver.arrived(&published, now_us, plan, texts, &mut self.books)?;
                }
                if let Some(what) = violation {
                    self.broken(FindingKind::Violation, index, now_us, what);
                }
                Ok(())
            }
            (Role::Consumer { inbox, .. }, kind::PUBREL) => {
                inbox.release(id()?, out);
                Ok(())
            }
            (
                Role::Sender {
                    commands, window, ..
                },
                kind::PUBACK | kind::PUBREC | kind::PUBCOMP,
            ) => {
                let (id, commands) = (id()?, *commands);
                let passes_over = window.passes_over(first, id);
                match window.take(first, id, wire::reason(packet.body)) {
                    Ok(Acked::Release) => wire::ack(out, kind::PUBREL | 0b10, id),
                    Ok(Acked::Promised(command)) => self.promised(commands, command, now_us),
                    Ok(Acked::Refused(command, reason)) => {
                        let stream = stream(commands, command);
                        self.books.ledger.refused(stream, command.seq);
                        let reason = format!("PUBLISH refused with code 0x{reason:02x}");
                        self.books.error(&reason);
                    }
                    Err(what) => self.broken(FindingKind::Violation, index, now_us, what),
                }
                if passes_over {
                    let what = "acknowledgement out of order";
                    self.broken(FindingKind::Violation, index, now_us, what);
                }
                Ok(())
            }
            _ => {
                let reason = format!("packet 0x{first:02x} to the wrong end");
                Err(End::violation(reason).into())
            }
        }
    }

    fn promised(&mut self, commands: usize, command: Command, now_us: u64) {
        let Books {
            counts,
            spreads,
            ledger,
            ..
        } = &mut self.books;
        ledger.acknowledged(stream(commands, command), command.seq, now_us);
        counts.acknowledged[usize::from(self.senders[commands].qos)] += 1;
        let latency_us = now_us.saturating_sub(command.due_us);
        spreads.record(LatencyKind::CommandAck, latency_us);
    }

    /// A broker has broken a promise to a connection.
    fn broken(&mut self, kind: FindingKind, index: usize, now_us: u64, what: &str) {
        let detail = format!("{} {what}", self.clients[index].id);
        let number = index as u32;
        self.books
            .broken(kind, number, now_us, detail.trim_end().to_owned());
    }

    fn lose(&mut self, index: usize, end: &End, now_us: u64) {
        self.links[index].close();
        if end.violation {
            self.broken(FindingKind::Violation, index, now_us, &end.reason);
        }
        match &mut self.roles[index] {
            Role::Consumer { receiver, .. } => self.receivers[*receiver].connection_lost(),
            Role::Sender {
                commands,
                lane,
                window,
            } => {
                window.end();
                let (sender, kind) = (&self.senders[*commands], 1 + *commands as u8);
                let is_of_lane = |device| sender.lane_of(device) == *lane;
                let ledger = &mut self.books.ledger;
                ledger.connection_lost(kind, sender.devices(), is_of_lane);
            }
        }
        if self.clients[index].has_left() {
            return;
        }
        self.books.error(&end.reason);
        if self.clients[index].lost(now_us) {
            self.books.counts.connections_lost += 1;
        }
    }

    /// Writes what there is, and what may leave besides.
    fn write(&mut self, index: usize, now_us: u64) -> Result<(), Full> {
        self.fill(index, now_us)?;
        let link = &mut self.links[index];
        let before = link.out.len();
        match link.flush() {
            Ok(_) if link.out.len() < before => self.clients[index].said(now_us),
            Ok(_) => {}
            Err(error) => self.lose(index, &End::allowed(error.to_string()), now_us),
        }
        Ok(())
    }

    fn fill(&mut self, index: usize, now_us: u64) -> Result<(), Full> {
        let Role::Sender {
            commands,
            lane,
            window,
        } = &mut self.roles[index]
        else {
            return Ok(());
        };
        if !self.clients[index].is_up() {
            return Ok(());
        }
        let (sender, out) = (&mut self.senders[*commands], &mut self.links[index].out);
        let mut press = Press {
            plan: &self.plan,
            texts: &mut self.texts,
            commands: *commands,
            qos: sender.qos,
        };
        while out.len() < UNSENT_BYTES_MAX {
            match window.again() {
                None => break,
                Some(Again::Release(id)) => wire::ack(out, kind::PUBREL | 0b10, id),
                Some(Again::Publish(command, id, how)) => {
                    let stream = stream(*commands, command);
                    self.books.ledger.resent(stream, command.seq, how, now_us)?;
                    press.append(command, id, how == Resent::Again, out);
                }
            }
        }
        while out.len() < UNSENT_BYTES_MAX && (sender.qos == 0 || window.has_room()) {
            let Some(command) = sender.next(*lane) else {
                break;
            };
            let id = if sender.qos == 0 {
                0
            } else {
                window.push(command)
            };
            press.append(command, id, false, out);
            sent(
                sender,
                stream(*commands, command),
                command,
                now_us,
                &mut self.books,
            )?;
        }
        Ok(())
    }
}

/// A command has left for the first time.
fn sent(
    sender: &Sender,
    stream: Stream,
    command: Command,
    now_us: u64,
    books: &mut Books,
) -> Result<(), Full> {
    let message = Message {
        stream,
        seq: command.seq,
        qos: sender.qos,
        due_us: command.due_us,
        promise: sender.promise,
    };
    books.ledger.sent(&message, now_us)?;
    let (counts, qos) = (&mut books.counts, usize::from(sender.qos));
    counts.sent[qos] += 1;
    counts.acknowledged[qos] += u64::from(qos == 0);
    counts.bytes[0] += u64::from(command.payload_len);
    let late_us = now_us.saturating_sub(command.due_us);
    counts.left_late += u64::from(late_us > LATE.as_micros() as u64);
    Ok(())
}

fn stream(commands: usize, command: Command) -> Stream {
    Stream {
        kind: 1 + commands as u8,
        device: command.device,
    }
}

/// Makes packets of commands.
struct Press<'a> {
    plan: &'a Plan,
    texts: &'a mut Texts,
    commands: usize,
    qos: u8,
}

impl Press<'_> {
    fn append(&mut self, command: Command, id: u16, dup: bool, out: &mut Vec<u8>) {
        let stamp = Stamp {
            run: self.plan.run,
            stream: stream(self.commands, command),
            seq: command.seq,
            due_us: command.due_us,
        };
        let topic = self
            .plan
            .command_topic(self.commands, command.device, self.texts);
        let publish = Publish {
            version: Version::V5,
            qos: self.qos,
            dup,
            topic,
            id,
            payload_len: command.payload_len as usize,
        };
        publish.append(out, |payload| stamp.write(payload));
    }
}
