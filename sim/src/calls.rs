//! Calls between the members of a group, on their way through the world: late, overtaken, lost, doubled, or not at all.

use crate::env::Env;
use crate::outbox::{Life, Out, Reply};
use crate::queue::Event;
use crate::world::World;
use bytes::Bytes;

/// A call that is under way.
pub(crate) struct Call {
    from: Life,
    /// The broker that is called.
    to: usize,
    bytes: Bytes,
    reply: Option<Reply>,
    answer: Option<Bytes>,
}

/// What waits for a partition to end comes so much later.
const AFTER_PARTITION_US: u64 = 200_000;

impl Call {
    /// The broker that is called.
    pub(crate) fn to(&self) -> usize {
        self.to
    }
}

impl World {
    /// Takes what the members have for the world.
    pub(crate) fn take_outbox(&mut self) {
        for out in self.env.outbox.take() {
            match out {
                Out::Woken((broker, life)) => self.brokers[broker].woken(&mut self.env, life),
                Out::Appended((broker, life)) => self.brokers[broker].appended(&mut self.env, life),
                Out::Received((broker, _)) => self.brokers[broker].received(&mut self.env),
                Out::Call {
                    from,
                    to,
                    call,
                    reply,
                } => self.called(from, &to, call, reply),
                Out::Changed(life, result) => self.changed(life, &result),
                Out::HandedOver(life, to) => self.handed_over(life, to.as_deref()),
                Out::Stopped((broker, life)) => self.brokers[broker].has_left(&mut self.env, life),
                Out::Answer { call, answer } => self.answered(call, answer),
            }
        }
    }

    fn called(&mut self, from: Life, to: &str, call: Bytes, reply: Reply) {
        let env = &mut self.env;
        let to = env
            .names
            .broker_at(to)
            .expect("members know each other's addresses");
        env.trace.mix(&call);
        let number = env.calls.len();
        env.calls.push(Call {
            from,
            to,
            bytes: call,
            reply: Some(reply),
            answer: None,
        });
        let event = Event::CallArrives { call: number };
        if send(env, (from.0, to), event) && env.rng.chance(env.plan.calls_doubled) {
            send(env, (from.0, to), event);
        }
    }

    fn answered(&mut self, number: usize, answer: Bytes) {
        let env = &mut self.env;
        env.trace.mix(&answer);
        let call = &mut env.calls[number];
        // The first answer to a call that came twice is the one that counts.
        if call.answer.replace(answer).is_none() {
            let (to, from) = (call.to, call.from.0);
            send(env, (to, from), Event::AnswerArrives { call: number });
        }
    }

    /// A call comes to the member that it is for.
    pub(crate) fn call_arrives(&mut self, number: usize) {
        let call = &mut self.env.calls[number];
        let broker = &mut self.brokers[call.to];
        if broker.listens() {
            broker.takes_call(number, call.bytes.clone());
            return;
        }
        // A process that is gone is known to be soon; a machine that is gone is not.
        if !broker.is_silent && call.answer.is_none() {
            let (to, from) = (call.to, call.from.0);
            send(
                &mut self.env,
                (to, from),
                Event::AnswerArrives { call: number },
            );
        }
    }

    /// An answer comes to the member that has called.
    pub(crate) fn answer_arrives(&mut self, number: usize) {
        let call = &mut self.env.calls[number];
        let (broker, life) = call.from;
        let is_there = self.brokers[broker].up && self.brokers[broker].life == life;
        if let (true, Some(reply)) = (is_there, call.reply.take()) {
            // It may have given up.
            let _gone = reply.send(call.answer.clone());
        }
        call.bytes = Bytes::new();
    }
}

/// Sends something from one broker to another, if it is not lost.
fn send(env: &mut Env, (from, to): (usize, usize), event: Event) -> bool {
    let (one, other) = (env.net.node_of_broker(from), env.net.node_of_broker(to));
    if env.calm_since.is_none() && env.rng.chance(env.plan.calls_lost) {
        return false;
    }
    let mut at = env.now + env.net.delay_of(env.now, (one, other), &mut env.rng);
    let until = env.net.blocked_until(one, other);
    if until > env.now {
        if env.rng.chance(700) {
            return false;
        }
        // It is sent again until it comes through.
        at = at.max(until + env.rng.range(0, AFTER_PARTITION_US));
    }
    env.queue.put(at, event);
    true
}
