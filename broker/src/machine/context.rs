//! What a command means by where it stands in its entry.

use cluster::ids::{Actor, LinkNo};

/// Gone at the end of each entry, so it is in no snapshot.
#[derive(Debug, Default)]
pub(super) struct Context {
    index: u64,
    from: Option<(LinkNo, u64)>,
    /// Link and number of the command at hand, or of the last one that had a number.
    numbered: Option<(LinkNo, u64)>,
    /// The claim right before, for an `Attach` that names nobody.
    claimed: Option<Actor>,
}

impl Context {
    /// The next command is one of entry `index`.
    pub(super) fn enter(&mut self, index: u64) {
        if self.index != index {
            *self = Self {
                index,
                ..Self::default()
            };
        }
    }

    /// The following numbered commands are the link's, from this number on.
    pub(super) fn from(&mut self, link: LinkNo, first: u64) {
        self.from = Some((link, first));
        self.claimed = None;
    }

    /// The number of the command at hand. Without a `From` before it, it has none.
    pub(super) fn next_number(&mut self) -> Option<(LinkNo, u64)> {
        let (link, number) = self.from.as_mut()?;
        let this = (*link, *number);
        *number += 1;
        self.numbered = Some(this);
        self.claimed = None;
        Some(this)
    }

    /// The link that the command at hand came from.
    pub(super) fn link(&self) -> LinkNo {
        self.numbered().0
    }

    /// Link and number of the command at hand.
    pub(super) fn numbered(&self) -> (LinkNo, u64) {
        self.numbered
            .expect("asked while a numbered command is applied")
    }

    pub(super) fn set_claimed(&mut self, actor: Actor) {
        self.claimed = Some(actor);
    }

    pub(super) fn take_claimed(&mut self) -> Option<Actor> {
        self.claimed.take()
    }
}
