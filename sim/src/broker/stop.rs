//! A broker that stops as planned: in the order in which its program does it (`Parts::stop` of `mqtt-fleet`).

use super::Broker;
use crate::engine::Engine;
use crate::env::Env;
use crate::log::lock;
use crate::net::ConnId;
use crate::outbox::Life;
use crate::queue::Event;
use broker::leader::Leader;

/// How far a broker is with its stop. Without any of this it takes part as ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It takes part as ever, until another member leads.
    HandsOver,
    /// Its links are closed; what came by them is stored, as nobody else has it.
    Settles,
    /// Its group's thread has ended; the member does.
    Leaves,
    /// All that may still append has ended; the log stores what it has.
    Closes,
}

impl Broker {
    /// It is told to stop, and starts again `away_us` after it has. `false`: it does not run, or stops already.
    pub(crate) fn begin_stop(&mut self, env: &mut Env, away_us: u64) -> bool {
        if !self.up || self.ending.is_some() {
            return false;
        }
        self.is_silent = false;
        self.away_us = away_us;
        self.ending = Some(Ending::HandsOver);
        let leads = if self.leads() { ", and leads" } else { "" };
        env.say(format_args!(
            "fault: group {} member {}: is to stop{leads}",
            self.group, self.member
        ));
        match &self.raft {
            Some(raft) => raft.hand_over(self.of_life()),
            None => self.close_links(env, Ending::Settles),
        }
        true
    }

    /// The member of this life leads no more, or nobody else can. `to`: who leads.
    pub(crate) fn handed_over(&mut self, env: &mut Env, life: u32, to: Option<&str>) {
        if !self.stops(life, Ending::HandsOver) {
            return;
        }
        let to = to.unwrap_or("nobody");
        env.say(format_args!(
            "group {} member {}: has handed over to {to}",
            self.group, self.member
        ));
        self.close_links(env, Ending::Leaves);
        self.engine = None;
        let raft = self.raft.as_ref().expect("it has handed over");
        raft.stop(self.of_life());
    }

    /// The member of this life has ended its work.
    pub(crate) fn has_left(&mut self, env: &mut Env, life: u32) {
        if self.stops(life, Ending::Leaves) {
            self.raft.take().expect("it has just ended").kill();
            self.close_log(env);
        }
    }

    fn stops(&self, life: u32, ending: Ending) -> bool {
        self.up && self.life == life && self.ending == Some(ending)
    }

    /// The group takes what the links hold. What it has to say to that nobody hears.
    fn close_links(&mut self, env: &mut Env, next: Ending) {
        self.turn(env);
        self.ending = Some(next);
        let conns: Vec<ConnId> = self.conns.keys().copied().collect();
        for at in conns {
            self.flush(env, at);
            self.close(env, at);
        }
        self.turn(env);
    }

    /// Goes on with a stop that waits for the disk.
    pub(super) fn go_on_stopping(&mut self, env: &mut Env) {
        match self.ending {
            Some(Ending::Settles) => {
                let leader = self.engine.as_ref().and_then(Engine::leader);
                if leader.is_none_or(Leader::is_settled) {
                    self.engine = None;
                    self.close_log(env);
                }
            }
            Some(Ending::Closes) => self.close_log(env),
            Some(Ending::HandsOver | Ending::Leaves) | None => {}
        }
    }

    /// Ends with the last sync.
    fn close_log(&mut self, env: &mut Env) {
        self.ending = Some(Ending::Closes);
        self.begin_sync(env);
        let (appended, durable) = {
            let disk = lock(&self.disk);
            (disk.appended(), disk.durable())
        };
        if durable < appended {
            return;
        }
        self.up = false;
        self.is_woken = false;
        self.ending = None;
        env.say(format_args!(
            "group {} member {}: has stopped, with {appended} records",
            self.group, self.member
        ));
        // When faults are over everybody comes back.
        let away_us = env.calm_since.map_or(self.away_us, |_| 0);
        let node = env.net.node_of_broker(self.id);
        env.after(away_us, Event::Restart { node });
    }

    /// Whether anybody can reach it.
    pub(crate) fn listens(&self) -> bool {
        self.up && matches!(self.ending, None | Some(Ending::HandsOver))
    }

    /// The life that stops, if it does.
    pub(crate) fn stopping_life(&self) -> Option<Life> {
        self.ending.map(|_| self.of_life())
    }
}
