//! A broker's part in changes of who is in its group.

use super::Broker;
use crate::env::Env;
use crate::log::{Disk, lock};
use crate::outbox::Life;
use broker::raft::Change;

impl Broker {
    /// Has it change who is in the group that it leads. The life that was asked.
    pub(crate) fn change(&self, change: Change) -> Option<Life> {
        let raft = self.raft.as_ref()?;
        raft.change(self.of_life(), change);
        Some(self.of_life())
    }

    /// Its disk is gone, and there is an empty one instead. It does not run meanwhile.
    pub(crate) fn lose_disk(&mut self, env: &mut Env) {
        *lock(&self.disk) = Disk::default();
        env.judge.stored.forgets((self.group, self.member));
        env.say(format_args!(
            "group {} member {}: has an empty disk",
            self.group, self.member
        ));
    }
}
