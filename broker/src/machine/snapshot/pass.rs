//! A snapshot of a state that goes on changing, a slice at a time.

use super::super::state::State;
use super::put::{put_option, put_u32};
use super::write;

/// A snapshot under way.
#[derive(Debug)]
pub(in crate::machine) struct Pass {
    part: Part,
    head: Vec<u8>,
    newest_segment: Option<u32>,
    tail: Vec<u8>,
    /// Bytes of the tail that are written.
    tail_put: usize,
}

/// What is written next.
#[derive(Clone, Copy, Debug)]
enum Part {
    Head,
    Messages,
    NewestSegment,
    Queues,
    Sessions,
    Retained,
    Tail,
}

impl State {
    /// Begins a snapshot of the state as it is now; one under way is given up. [`State::put_snapshot`] writes it,
    /// and any command may be applied meanwhile.
    ///
    /// What there may be millions of is not copied here: sessions, messages, shared queues and retained messages each
    /// leave what they were when they change, until they are written. The rest is: due wills, errands, producers,
    /// the topology, and the numbers that are free.
    pub fn begin_snapshot(&mut self) {
        let (mut head, mut tail) = (Vec::new(), Vec::new());
        write::head(self, &mut head);
        write::tail(self, &mut tail);
        self.messages.table.cut();
        self.shared.table.cut();
        self.clients.table.cut();
        self.retained.cut();
        self.pass = Some(Pass {
            part: Part::Head,
            head,
            newest_segment: self.messages.newest_segment(),
            tail,
            tail_put: 0,
        });
    }

    /// Appends the next parts of the snapshot under way, until `out` has `full` bytes or little more. Whether that
    /// was all of it.
    pub fn put_snapshot(&mut self, out: &mut Vec<u8>, full: usize) -> bool {
        let Some(pass) = &mut self.pass else {
            return true;
        };
        loop {
            pass.part = match pass.part {
                Part::Head => {
                    out.append(&mut pass.head);
                    Part::Messages
                }
                Part::Messages if self.messages.table.put_cut(out, full) => Part::NewestSegment,
                Part::NewestSegment => {
                    put_option(pass.newest_segment.as_ref(), out, |segment, out| {
                        put_u32(*segment, out);
                    });
                    Part::Queues
                }
                Part::Queues if self.shared.table.put_cut(out, full) => Part::Sessions,
                Part::Sessions if self.clients.table.put_cut(out, full) => Part::Retained,
                Part::Retained if self.retained.put_cut(out, full) => Part::Tail,
                Part::Tail => {
                    let rest = &pass.tail[pass.tail_put..];
                    let fits = full.saturating_sub(out.len()).min(rest.len());
                    out.extend_from_slice(&rest[..fits]);
                    pass.tail_put += fits;
                    let is_whole = fits == rest.len();
                    self.pass.take_if(|_| is_whole);
                    return is_whole;
                }
                Part::Messages | Part::Queues | Part::Sessions | Part::Retained => return false,
            };
        }
    }

    /// Gives up the snapshot under way, if there is one: nothing is remembered for it any more.
    pub fn give_up_snapshot(&mut self) {
        self.pass = None;
        self.messages.table.end_cut();
        self.shared.table.end_cut();
        self.clients.table.end_cut();
        self.retained.end_cut();
    }

    /// Memory for what has changed since the snapshot under way began and is not written yet, in bytes.
    pub fn snapshot_backlog(&self) -> usize {
        self.messages.table.cut_bytes()
            + self.shared.table.cut_bytes()
            + self.clients.table.cut_bytes()
            + self.retained.cut_bytes()
    }

    /// A snapshot at once. Canonical: two replicas that applied the same entries give the same bytes.
    pub fn snapshot(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.begin_snapshot();
        self.put_snapshot(&mut out, usize::MAX);
        out
    }
}
