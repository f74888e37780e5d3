//! A member's copy of its group's state: its snapshots, and what it is compared with.

use super::Broker;
use crate::engine::Engine;
use crate::entries::{entry_of, note_all};
use crate::env::Env;
use crate::log::{Snapshot, lock};
use crate::queue::Event;

impl Broker {
    /// Begins to write a snapshot when it is time for one.
    pub(super) fn begin_snapshot(&mut self, env: &mut Env) {
        let (Some(every), None) = (env.plan.snapshot_entries, &self.writing) else {
            return;
        };
        let engine = self.engine.as_mut().expect("it is up");
        let newest = lock(&self.disk)
            .snapshot()
            .map_or(0, |it| it.position.index);
        if self.raft.is_none() || engine.applied() < newest + every {
            return;
        }
        let mut bytes = Vec::new();
        let position = engine.position().clone();
        position.write(&mut bytes).expect("memory takes everything");
        bytes.extend(engine.snapshot());
        self.writing = Some(Snapshot {
            position,
            bytes: bytes.into(),
        });
        let time = env.rng.skewed(env.plan.sync_us.0, env.plan.sync_us.1 * 4);
        let (broker, life) = (self.id, self.life);
        env.after(time, Event::Written { broker, life });
    }

    /// The snapshot is on disk.
    pub(crate) fn written(&mut self, env: &mut Env) {
        let (Some(snapshot), Some(engine)) = (self.writing.take(), &mut self.engine) else {
            return;
        };
        let position = snapshot.position.clone();
        lock(&self.disk).keep_snapshot(snapshot);
        engine.snapshot_written(position);
        self.turn(env);
    }

    /// Another member's snapshot is on disk.
    pub(crate) fn received(&self, env: &mut Env) {
        note_all(env, (self.group, self.member), &lock(&self.disk));
    }

    /// Its state, as bytes.
    pub(crate) fn snapshot(&mut self) -> Option<Vec<u8>> {
        self.engine.as_mut().map(Engine::snapshot)
    }

    /// Compares its state with what its log gives.
    pub(crate) fn compare(&mut self, env: &mut Env) {
        let Some(engine) = &mut self.engine else {
            return;
        };
        let disk = lock(&self.disk);
        let is_raft = self.raft.is_some();
        let entries = disk.entries();
        let applied = engine.applied();
        if disk.has_received() {
            // Its log has not all that it has applied, and may have what nobody has agreed on.
            return;
        }
        let entries = entries.range(1..=applied);
        let entries = entries.map(|(_, record)| entry_of(record, is_raft));
        let mut replayed = Engine::replayed(entries);
        drop(disk);
        if replayed.applied() != engine.applied() {
            return;
        }
        let states = (engine.snapshot(), replayed.snapshot());
        let name = format!("member {}", self.member);
        env.judge
            .compares(self.group, (&name, "its log"), (&states.0, &states.1));
    }

    /// Says what the member says of itself.
    pub(crate) fn say_status(&self, env: &mut Env) {
        if let Some(raft) = &self.raft {
            let status = raft.status();
            env.say(format_args!(
                "group {} member {}: {status:?}",
                self.group, self.member
            ));
        }
    }

    /// Index of the last entry that it has applied.
    pub(crate) fn applied(&self) -> u64 {
        self.engine.as_ref().map_or(0, Engine::applied)
    }
}
