//! A proxy's end of a link, on a wire that can be cut anywhere.

use cluster::frame::{FromGroup, Resume, ToGroup};
use cluster::ids::LinkNo;
use std::collections::VecDeque;

#[derive(Default)]
pub(super) struct Link {
    /// Number of the last numbered frame.
    number: u64,
    /// The highest number ever sent.
    sent: u64,
    kept: VecDeque<(u64, ToGroup)>,
    /// The group's number for it, while there is a link session.
    pub(super) at: Option<LinkNo>,
    pub(super) to_group: VecDeque<ToGroup>,
    pub(super) from_group: VecDeque<FromGroup>,
    unit: Vec<FromGroup>,
}

impl Link {
    pub(super) fn push(&mut self, frame: ToGroup) {
        let is_up = self.at.is_some();
        if frame.is_numbered() {
            self.number += 1;
            self.kept.push_back((self.number, frame.clone()));
            if is_up {
                self.sent = self.number;
            }
        }
        if is_up {
            self.to_group.push_back(frame);
        }
    }

    /// A link session begins.
    pub(super) fn up(&mut self, at: LinkNo, resume: Resume) {
        self.at = Some(at);
        self.to_group.push_back(ToGroup::Resume(Box::new(resume)));
        let oldest = self.kept.front().map(|(number, _)| *number);
        let first = oldest.unwrap_or(self.number + 1);
        let resent = first <= self.sent;
        self.to_group.push_back(ToGroup::Number { first, resent });
        for (number, frame) in &self.kept {
            if *number == self.sent + 1 && *number > first {
                let (first, resent) = (*number, false);
                self.to_group.push_back(ToGroup::Number { first, resent });
            }
            self.to_group.push_back(frame.clone());
        }
        self.sent = self.number;
        let (first, resent) = (self.number + 1, false);
        self.to_group.push_back(ToGroup::Number { first, resent });
    }

    /// The wire is cut: what is on it is gone. Returns the link session that ends.
    pub(super) fn cut(&mut self) -> Option<LinkNo> {
        self.to_group.clear();
        self.from_group.clear();
        self.unit.clear();
        self.at.take()
    }

    /// The next frame from the group; whole units only.
    pub(super) fn next_unit(&mut self) -> Option<Vec<FromGroup>> {
        let frame = self.from_group.pop_front()?;
        let FromGroup::Done { number } = frame else {
            self.unit.push(frame);
            return Some(Vec::new());
        };
        while self.kept.front().is_some_and(|(first, _)| *first <= number) {
            self.kept.pop_front();
        }
        Some(std::mem::take(&mut self.unit))
    }

    pub(super) fn is_settled(&self) -> bool {
        self.kept.is_empty()
    }
}
