//! Keep alive, connect timeout, waits for groups and lingering, by the wheel.

use super::Shard;
use super::connection::Connection;
use crate::limits::WHEEL_SECONDS;
use crate::session::{Patience, Rules, Session};
use cluster::ids::Handle;

impl Shard {
    /// Enters a connection into the wheel, if its deadline is before its next visit.
    pub(super) fn arm(&mut self, index: u32) {
        let now_s = self.rules.now_s;
        let Some(connection) = self.table.at(index) else {
            return;
        };
        let due_s = due_s(connection, &self.rules).unwrap_or(u32::MAX);
        if due_s.min(now_s + WHEEL_SECONDS) < connection.visit_s {
            let generation = connection.session.handle().generation;
            connection.visit_s = self.wheel.enter(index, generation, due_s, now_s);
        }
    }

    /// Visits the connections whose second has come.
    pub(super) fn visit_due(&mut self) {
        let mut visits = std::mem::take(&mut self.visits);
        while self.wheel.next_due(self.rules.now_s, &mut visits) {
            for visit in &visits {
                let handle = Handle {
                    index: visit.index,
                    generation: visit.generation,
                };
                self.visit(handle, visit.at_s);
            }
        }
        self.visits = visits;
    }

    fn visit(&mut self, handle: Handle, at_s: u32) {
        let now_s = self.rules.now_s;
        let Some(connection) = self.table.get(handle) else {
            return;
        };
        if connection.visit_s != at_s {
            return;
        }
        connection.visit_s = u32::MAX;
        connection.session.rest();
        let unread = connection.ready || connection.paused;
        if connection.session.is_connected() && unread && connection.takes_answers(&self.rules) {
            // There is something of the client that we have not read, for reasons of ours: its clock stands still.
            connection.heard_s = now_s;
        }
        if connection.session.due_s() <= now_s {
            return self.end_wait(handle);
        }
        let is_over = connection.session.ended().is_some();
        match due_s(connection, &self.rules) {
            Some(due_s) if due_s <= now_s && is_over => self.close(handle.index),
            Some(due_s) if due_s <= now_s => {
                self.with(handle.index, Session::timed_out);
                self.see_end(handle.index);
            }
            _ => self.arm(handle.index),
        }
    }

    /// A session has waited long enough for a group.
    fn end_wait(&mut self, handle: Handle) {
        let index = handle.index;
        self.with(index, Session::overdue);
        self.look_after(index);
        self.arm(index);
    }
}

/// The second at which the connection's patience ends.
fn due_s(connection: &Connection, rules: &Rules) -> Option<u32> {
    let patience_s = match connection.session.patience(rules) {
        Patience::Seconds(seconds) => Some(connection.heard_s.saturating_add(seconds)),
        Patience::Endless => None,
    };
    let wait_s = connection.session.due_s();
    patience_s
        .into_iter()
        .chain((wait_s < u32::MAX).then_some(wait_s))
        .min()
}
