//! The commands that will be the next log entry.

use crate::command::Command;
use crate::command_codec::{self, PlacedMessage};
use cluster::frame::StoredAt;
use cluster::ids::LinkNo;

/// An acknowledgement that lets nothing move waits at most this long for company, in milliseconds.
pub(super) const LAZY_MS_MAX: u64 = 100;
/// An entry is closed when its messages, wills and filters have this many bytes: reading one message back checks
/// the whole record, and the log refuses records that are far larger.
pub(super) const ENTRY_BYTES_MAX: usize = 64 << 10;
/// An entry is closed at this many commands, so that applying one does not hold up a turn.
const ENTRY_COMMANDS_MAX: usize = 16_384;

/// A closed entry, on its way through the log.
#[derive(Debug)]
pub struct Sealed {
    /// The entry's index in the group's log.
    pub index: u64,
    /// The group's time in it, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// Its commands.
    pub commands: Vec<Command>,
    /// How many of them do not wait for company: about as many answers wait for the entry.
    pub urgent: u64,
    /// The log's ticket for it: stored when the log says this ticket is.
    pub ticket: u64,
    messages: Vec<PlacedMessage>,
}

impl Sealed {
    /// The log has put the entry into `record` of `segment`: tell its messages where they are.
    pub(super) fn place(&mut self, segment: u32, record: u32, ticket: u64) {
        self.ticket = ticket;
        for message in self.messages.drain(..) {
            let at = StoredAt {
                segment,
                record,
                offset: message.offset,
                len: message.len,
            };
            match &mut self.commands[message.command as usize] {
                Command::Publish(_, place)
                | Command::WillPublish { at: place, .. }
                | Command::Relocate { at: place, .. } => *place = at,
                other => unreachable!("only publishes carry messages, not {other:?}"),
            }
        }
    }
}

/// An entry that is due.
#[derive(Debug)]
struct Closed {
    index: u64,
    commands: Vec<Command>,
    urgent: u64,
}

/// Commands that wait for the log, in order.
#[derive(Debug)]
pub(super) struct Batch {
    index: u64,
    commands: Vec<Command>,
    closed: std::collections::VecDeque<Closed>,
    bytes: usize,
    from: Option<LinkNo>,
    /// Commands that do not wait.
    urgent: u64,
    lazy_since_ms: Option<u64>,
}

impl Batch {
    pub(super) fn new(index: u64) -> Self {
        Self {
            index,
            commands: Vec::new(),
            closed: std::collections::VecDeque::new(),
            bytes: 0,
            from: None,
            urgent: 0,
            lazy_since_ms: None,
        }
    }

    /// Index of the entry that a command pushed now will be in.
    pub(super) fn index(&self) -> u64 {
        self.index
    }

    pub(super) fn is_empty(&self) -> bool {
        self.commands.is_empty() && self.closed.is_empty()
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
        if self.from != Some(link) {
            self.from = Some(link);
            self.commands.push(Command::From {
                link,
                first: number,
            });
        }
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

    fn is_full(&self) -> bool {
        self.bytes >= ENTRY_BYTES_MAX || self.commands.len() >= ENTRY_COMMANDS_MAX
    }

    /// When the oldest command that may wait has waited enough.
    pub(super) fn lazy_deadline_ms(&self) -> Option<u64> {
        self.lazy_since_ms.map(|since| since + LAZY_MS_MAX)
    }

    /// Index of the entry that may not wait any longer, if there is one.
    pub(super) fn due(&mut self, now_ms: u64) -> Option<u64> {
        if self.closed.is_empty() {
            let due = self.urgent > 0 || self.lazy_deadline_ms().is_some_and(|due| due <= now_ms);
            if !due {
                return None;
            }
            self.close();
        }
        self.closed.front().map(|closed| closed.index)
    }

    /// Takes the entry that is due; its body is appended to `bytes`.
    pub(super) fn seal(&mut self, now_ms: u64, bytes: &mut Vec<u8>) -> Sealed {
        let closed = self.closed.pop_front().expect("seal follows due");
        let mut messages = Vec::new();
        command_codec::encode_entry(now_ms, &closed.commands, bytes, &mut messages);
        Sealed {
            index: closed.index,
            time_ms: now_ms,
            commands: closed.commands,
            urgent: closed.urgent,
            ticket: u64::MAX,
            messages,
        }
    }

    fn close(&mut self) {
        let spare = Vec::with_capacity(self.commands.len().min(1_024));
        let commands = std::mem::replace(&mut self.commands, spare);
        self.closed.push_back(Closed {
            index: self.index,
            commands,
            urgent: std::mem::take(&mut self.urgent),
        });
        self.index += 1;
        self.bytes = 0;
        self.from = None;
        self.lazy_since_ms = None;
    }
}

/// Bytes of a command's parts that have no fixed size, about.
fn variable_bytes(command: &Command) -> usize {
    match command {
        Command::Publish(publish, _) | Command::WillPublish { publish, .. } => {
            publish.message.byte_len()
        }
        Command::Relocate { copy, .. } => copy.byte_len(),
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
