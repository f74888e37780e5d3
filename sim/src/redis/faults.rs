//! What goes wrong with Redis, by the seed.

use super::Call;
use crate::env::Env;
use crate::queue::Event;
use crate::rng::Rng;

const SECOND: u64 = 1_000_000;

/// What a seed makes of Redis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RedisPlan {
    /// Proxies keep records at all.
    pub(crate) used: bool,
    /// From a proxy to it, or back, in microseconds.
    pub(crate) latency_us: (u64, u64),
    /// Between two faults, in microseconds.
    fault_us: (u64, u64),
    /// What a crash takes at most: the time between two syncs, in microseconds.
    sync_us: u64,
    /// How far its replica is behind at most, in microseconds.
    lag_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// It crashes and starts again, without what it had not synced.
    Crash,
    /// It crashes, and its replica takes over.
    FailOver,
    /// FLUSHALL, or a server that comes back without its data.
    Wipe,
    /// Everything takes longer.
    Slow,
    /// It answers nothing but errors.
    Fail,
    /// A proxy does not reach it.
    Away,
    /// A record is not what was written.
    Damage,
}

impl RedisPlan {
    pub(crate) fn any(rng: &mut Rng) -> Self {
        let fast = rng.chance(700);
        let gap_us = *rng.pick(&[SECOND, 3 * SECOND, 8 * SECOND]);
        Self {
            used: rng.chance(800),
            latency_us: if fast { (100, 3_000) } else { (1_000, 250_000) },
            fault_us: (gap_us / 4, gap_us * 2),
            // `appendfsync everysec`: it may be two seconds. `always`: nothing.
            sync_us: *rng.pick(&[0, 2 * SECOND, 2 * SECOND]),
            lag_us: *rng.pick(&[10_000, SECOND, 5 * SECOND]),
        }
    }
}

impl Env {
    /// The first fault of Redis, if it is used.
    pub(crate) fn plan_redis_fault(&mut self) {
        let plan = self.redis.plan;
        if plan.used {
            let wait = self.rng.range(plan.fault_us.0, plan.fault_us.1);
            self.after(wait, Event::RedisFault);
        }
    }

    /// The next thing goes wrong with Redis.
    pub(crate) fn redis_fault(&mut self) {
        if self.calm_since.is_some() {
            return;
        }
        self.plan_redis_fault();
        let all = [
            Fault::Crash,
            Fault::FailOver,
            Fault::Wipe,
            Fault::Slow,
            Fault::Fail,
            Fault::Away,
            Fault::Damage,
        ];
        let fault = *self.rng.pick(&all);
        let time = self.rng.skewed(SECOND / 5, 8 * SECOND);
        let plan = self.redis.plan;
        match fault {
            Fault::Crash => self.crash_redis(plan.sync_us, time),
            Fault::FailOver => self.crash_redis(plan.lag_us, time / 2),
            Fault::Wipe => {
                self.say(format_args!("fault: Redis loses everything"));
                self.redis.data.wipe();
            }
            Fault::Slow => {
                let by = self.rng.skewed(10_000, 2 * SECOND);
                self.redis.slow = (self.now + time, by);
                self.say(format_args!(
                    "fault: Redis takes {by} us longer for {time} us"
                ));
            }
            Fault::Fail => {
                self.redis.fails_until = self.now + time;
                self.say(format_args!("fault: Redis answers errors for {time} us"));
            }
            Fault::Away => {
                let proxy = self.rng.below(self.plan.proxies);
                self.redis.away_from[proxy] = self.now + time;
                self.say(format_args!(
                    "fault: proxy {proxy} does not reach Redis for {time} us"
                ));
            }
            Fault::Damage => {
                if let Some(whose) = self.redis.data.damage(self.now, &mut self.rng) {
                    self.say(format_args!("fault: the record of {whose} loses a filter"));
                }
            }
        }
    }

    /// It is gone for a time, and with it the newest of what it has acknowledged.
    fn crash_redis(&mut self, loses_us: u64, away_us: u64) {
        if !self.redis.up {
            return;
        }
        let lost_us = self.rng.range(0, loses_us);
        let redis = &mut self.redis;
        redis.up = false;
        let changes = redis.data.roll_back(self.now.saturating_sub(lost_us));
        // Its answers are lost, also those that are on their way.
        redis
            .calls
            .retain(|_, call| matches!(call, Call::Asked(..)));
        self.say(format_args!(
            "fault: Redis crashes, loses the {changes} changes of {lost_us} us, and is away for {away_us} us"
        ));
        self.after(away_us, Event::RedisBack);
    }

    pub(crate) fn redis_back(&mut self) {
        if !self.redis.up {
            self.redis.up = true;
            self.redis.life += 1;
            self.say(format_args!("Redis is back"));
        }
    }

    /// Nothing goes wrong with Redis any more.
    pub(crate) fn heal_redis(&mut self) {
        self.redis.slow = (0, 0);
        self.redis.fails_until = 0;
        self.redis.away_from.fill(0);
        self.redis_back();
    }
}
