//! The way of a frame: it becomes a command, commands become an entry, and a stored entry is applied.

use super::order::PublishOrder;
use super::{Leader, NOWHERE};
use crate::command::Command;
use crate::command_codec::{self, PlacedMessage};
use crate::log::Location;
use cluster::frame::{AckKind, Publish, StoredAt, ToGroup};
use cluster::ids::LinkNo;
use std::collections::VecDeque;

/// An acknowledgement that lets nothing move waits at most this long for company, in milliseconds.
pub(super) const LAZY_MS_MAX: u64 = 100;
/// An entry is closed when its messages, wills and filters have this many bytes: reading one message back checks
/// the whole record, and the log refuses records that are far larger.
pub(super) const ENTRY_BYTES_MAX: usize = 64 << 10;
/// An entry is closed at this many commands, so that applying one does not hold up a turn.
const ENTRY_COMMANDS_MAX: usize = 16_384;

impl Leader {
    /// A frame that is no repeat. `resent`: an earlier life of this leader may have dealt with it all the same.
    pub(super) fn fresh(&mut self, link: LinkNo, frame: ToGroup, resent: bool) {
        match frame {
            ToGroup::Publish(publish) => self.publish(link, publish, resent),
            ToGroup::Ack(ack) => {
                let moves = ack.kind == AckKind::Received || self.state.ack_unblocks(&ack);
                self.propose(link, Command::Ack(ack), moves);
            }
            ToGroup::Release { actor, packet_id } => {
                self.propose(link, Command::Release { actor, packet_id }, true);
            }
            ToGroup::Claim(claim) => {
                self.propose(link, Command::Claim(claim), true);
                self.batch.push(Command::Attach {
                    actor: None,
                    if_free: true,
                });
            }
            ToGroup::Subscribe(subscribe) => {
                self.propose(link, Command::Subscribe(subscribe), true);
            }
            ToGroup::Unsubscribe(u) => self.propose(link, Command::Unsubscribe(u), true),
            ToGroup::Disconnect(gone) => self.propose(link, Command::Disconnect(gone), true),
            ToGroup::Kicked { handle } => self.kick_done(link, handle),
            ToGroup::ListFilters(asked) => self.state.list_filters(link, &asked, &mut self.out),
            frame @ (ToGroup::List { .. }
            | ToGroup::Join(_)
            | ToGroup::Errand(_)
            | ToGroup::ErrandDone(_)) => self.of_other_groups(link, frame),
            // A link that never breaks has nothing to count or to resume.
            ToGroup::Number { .. } | ToGroup::Resume(_) => self.links.out_of_turn += 1,
        }
    }

    /// Whether an entry may not wait any longer: the driver takes it with [`Leader::seal`] and proposes it.
    pub fn due(&mut self) -> bool {
        self.batch.due(self.now_ms)
    }

    /// Closes the entry that is due and appends its body to `bytes`. About so many answers wait for it.
    pub fn seal(&mut self, bytes: &mut Vec<u8>) -> u64 {
        let sealed = self.batch.seal(self.now_ms, bytes);
        let answers = sealed.urgent;
        self.waiting.push_back(sealed);
        answers
    }

    /// The oldest sealed entry that is not applied is agreed on and is entry `index` of the group's log: apply it. Its
    /// bytes begin at `offset` in the body of the record at `at`.
    pub fn committed(&mut self, index: u64, at: Location, offset: u32) {
        let mut entry = self
            .waiting
            .pop_front()
            .expect("what comes back was sealed here");
        entry.place(at, offset);
        self.apply(index, entry);
    }

    /// Entry `index` of the group's log is none of this leader's and means nothing to the machine.
    pub fn skipped(&mut self, index: u64) {
        self.applied = index;
    }

    fn publish(&mut self, link: LinkNo, publish: Publish, resent: bool) {
        if resent && !self.state.must_log(&publish) {
            self.state.answer_unlogged_again(&publish, &mut self.out);
            return;
        }
        let bucket = PublishOrder::bucket(publish.message.topic_bytes());
        if !self.order.must_follow_log(publish.qos, bucket, self.done)
            && !self.state.must_log(&publish)
        {
            self.state
                .deliver_unlogged(self.now_ms, publish, &mut self.out);
            return;
        }
        self.order.logged(publish.qos, bucket, self.batch.number());
        self.propose(link, Command::Publish(publish, NOWHERE), true);
    }

    pub(super) fn propose(&mut self, link: LinkNo, command: Command, at_once: bool) {
        if !command.is_numbered() {
            return self.batch.push(command);
        }
        let number = self.links.number_for_log(link);
        self.batch
            .push_from(link, number, command, at_once, self.now_ms);
    }

    fn apply(&mut self, index: u64, entry: Sealed) {
        for command in entry.commands {
            if matches!(command, Command::Tick) {
                self.tick_in_log = false;
            }
            self.state
                .apply(index, entry.time_ms, command, &mut self.out);
        }
        self.applied = index;
        self.done = entry.number;
        if !self.out.leader.is_empty() {
            for effect in std::mem::take(&mut self.out.leader) {
                self.effect(effect);
            }
        }
    }
}

/// A closed entry, on its way through the log.
#[derive(Debug)]
pub struct Sealed {
    /// Which entry of this reign it is, from 1.
    number: u64,
    /// The group's time in it, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// Its commands.
    pub commands: Vec<Command>,
    /// How many of them do not wait for company: about as many answers wait for the entry.
    pub urgent: u64,
    messages: Vec<PlacedMessage>,
}

impl Sealed {
    /// The log has put the entry into the record at `record`, from `offset` on: tell its messages where they are.
    fn place(&mut self, record: Location, offset: u32) {
        for message in self.messages.drain(..) {
            let at = StoredAt {
                segment: record.segment,
                record: record.offset,
                offset: offset + message.offset,
                len: message.len,
            };
            match &mut self.commands[message.command as usize] {
                Command::Publish(_, place)
                | Command::WillPublish { at: place, .. }
                | Command::ForeignWill { at: place, .. }
                | Command::Relocate { at: place, .. } => *place = at,
                other => unreachable!("only publishes carry messages, not {other:?}"),
            }
        }
    }
}

/// An entry that is due.
#[derive(Debug)]
struct Closed {
    number: u64,
    commands: Vec<Command>,
    urgent: u64,
    /// See [`Batch::held_bytes`].
    bytes: usize,
}

/// Commands that wait for the log, in order.
#[derive(Debug)]
pub(super) struct Batch {
    number: u64,
    commands: Vec<Command>,
    closed: VecDeque<Closed>,
    /// Bytes of all that is closed.
    closed_bytes: usize,
    bytes: usize,
    /// The link whose numbers the commands have now, and the next one.
    from: Option<(LinkNo, u64)>,
    /// Commands that do not wait.
    urgent: u64,
    lazy_since_ms: Option<u64>,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            number: 1,
            commands: Vec::new(),
            closed: VecDeque::new(),
            closed_bytes: 0,
            bytes: 0,
            from: None,
            urgent: 0,
            lazy_since_ms: None,
        }
    }

    /// Number in this reign of the entry that a command pushed now will be in.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn is_empty(&self) -> bool {
        self.commands.is_empty() && self.closed.is_empty()
    }

    /// Bytes of memory that all commands take, about.
    pub(super) fn held_bytes(&self) -> usize {
        self.closed_bytes + self.open_bytes()
    }

    fn open_bytes(&self) -> usize {
        self.bytes + self.commands.len() * size_of::<Command>()
    }

    /// A command of the leader's own; it does not wait.
    pub(super) fn push(&mut self, command: Command) {
        self.urgent += 1;
        self.bytes += variable_bytes(&command);
        self.commands.push(command);
        if self.is_full() {
            self.close();
        }
    }

    /// A numbered command of a link.
    pub(super) fn push_from(
        &mut self,
        link: LinkNo,
        number: u64,
        command: Command,
        at_once: bool,
        now_ms: u64,
    ) {
        if self.from != Some((link, number)) {
            self.commands.push(Command::From {
                link,
                first: number,
            });
        }
        self.from = Some((link, number + 1));
        self.urgent += u64::from(at_once);
        if !at_once && self.lazy_since_ms.is_none() {
            self.lazy_since_ms = Some(now_ms);
        }
        self.bytes += variable_bytes(&command);
        // A claim and the attach that the leader pushes next stay in one entry.
        let may_close = !matches!(command, Command::Claim(_));
        self.commands.push(command);
        if may_close && self.is_full() {
            self.close();
        }
    }

    /// Something waits for the commands that have been waiting for company.
    pub(super) fn hurry(&mut self) {
        self.urgent += u64::from(self.urgent == 0 && !self.commands.is_empty());
    }

    fn is_full(&self) -> bool {
        self.bytes >= ENTRY_BYTES_MAX || self.commands.len() >= ENTRY_COMMANDS_MAX
    }

    /// When the oldest command that may wait has waited enough.
    pub(super) fn lazy_deadline_ms(&self) -> Option<u64> {
        self.lazy_since_ms.map(|since| since + LAZY_MS_MAX)
    }

    /// Whether an entry may not wait any longer.
    pub(super) fn due(&mut self, now_ms: u64) -> bool {
        if self.closed.is_empty() {
            let due = self.urgent > 0 || self.lazy_deadline_ms().is_some_and(|due| due <= now_ms);
            if !due {
                return false;
            }
            self.close();
        }
        true
    }

    /// Takes the entry that is due; its body is appended to `bytes`.
    pub(super) fn seal(&mut self, now_ms: u64, bytes: &mut Vec<u8>) -> Sealed {
        let closed = self.closed.pop_front().expect("seal follows due");
        self.closed_bytes -= closed.bytes;
        let mut messages = Vec::new();
        command_codec::encode_entry(now_ms, &closed.commands, bytes, &mut messages);
        Sealed {
            number: closed.number,
            time_ms: now_ms,
            commands: closed.commands,
            urgent: closed.urgent,
            messages,
        }
    }

    fn close(&mut self) {
        let bytes = self.open_bytes();
        self.closed_bytes += bytes;
        let spare = Vec::with_capacity(self.commands.len().min(1_024));
        let commands = std::mem::replace(&mut self.commands, spare);
        self.closed.push_back(Closed {
            number: self.number,
            commands,
            urgent: std::mem::take(&mut self.urgent),
            bytes,
        });
        self.number += 1;
        self.bytes = 0;
        self.from = None;
        self.lazy_since_ms = None;
    }
}

/// Bytes of a command's parts that have no fixed size, about.
fn variable_bytes(command: &Command) -> usize {
    match command {
        Command::Publish(publish, _)
        | Command::WillPublish { publish, .. }
        | Command::ForeignWill { publish, .. } => publish.message.byte_len(),
        Command::Join(join) => join.client_id.len(),
        Command::End { client_id, .. } => client_id.len(),
        Command::Relocate { copy, .. } => copy.byte_len(),
        Command::Topology(_) => ENTRY_BYTES_MAX / 2,
        Command::Claim(claim) => {
            let will = claim.will.as_ref();
            claim.client_id.len() + will.map_or(0, |will| will.message.byte_len())
        }
        Command::Subscribe(subscribe) => {
            let filters = subscribe.filters.iter();
            filters.map(|(filter, _)| filter.as_str().len()).sum()
        }
        Command::Unsubscribe(unsubscribe) => {
            let filters = unsubscribe.filters.iter();
            filters.map(|filter| filter.as_str().len()).sum()
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_batch_holds_is_counted_until_it_is_sealed() {
        let mut batch = Batch::new();
        let one = size_of::<Command>();
        for n in 1..=3 * ENTRY_COMMANDS_MAX {
            batch.push(Command::Tick);
            assert_eq!(batch.held_bytes(), n * one);
        }
        for left in (0..3).rev() {
            assert!(batch.due(0));
            batch.seal(0, &mut Vec::new());
            assert_eq!(batch.held_bytes(), left * ENTRY_COMMANDS_MAX * one);
        }
        assert!(batch.is_empty());
    }
}
