//! What each cut did, and all of them together.

use std::fmt;
use std::time::Duration;

/// What became of one cut.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    /// What was between whom, without the numbers of the nodes.
    pub(crate) kind: String,
    pub(crate) proxy: String,
    pub(crate) peer: String,
    /// How long packets were lost.
    pub(crate) lasted: Duration,
    pub(crate) packets_lost: u64,
    /// The longest time one device was without service, from the cut until all was well.
    pub(crate) gap: Duration,
    /// From the end of the cut until all links and Redis were there again, and all nodes ready.
    pub(crate) healed: Duration,
    /// From the end of the cut until every device was served as before.
    pub(crate) served: Duration,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            proxy,
            peer,
            packets_lost,
            ..
        } = self;
        write!(
            f,
            "{kind:<18} {proxy}, {peer:<8} {:6.2} s, {packets_lost:4} packets lost, longest gap {:6.2} s; healed after \
             {:6.2} s, all served after {:6.2} s",
            self.lasted.as_secs_f64(),
            self.gap.as_secs_f64(),
            self.healed.as_secs_f64(),
            self.served.as_secs_f64()
        )
    }
}

/// All cuts, by kind.
pub(crate) struct Table<'a>(pub(crate) &'a [Cut]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "cut                times    lasted (s)   longest gap: median    max   healed: median    max   served: median    max"
        )?;
        let mut kinds: Vec<&str> = Vec::new();
        for cut in self.0 {
            if !kinds.contains(&cut.kind.as_str()) {
                kinds.push(&cut.kind);
            }
        }
        for kind in kinds {
            let of_kind: Vec<_> = self.0.iter().filter(|cut| cut.kind == kind).collect();
            let [lasted, gap, healed, served] = [
                spread(&of_kind, |cut| cut.lasted),
                spread(&of_kind, |cut| cut.gap),
                spread(&of_kind, |cut| cut.healed),
                spread(&of_kind, |cut| cut.served),
            ];
            writeln!(
                f,
                "{kind:<18} {:>5} {:>6.1}-{:<6.1} {:>20.2} {:>6.2} {:>16.2} {:>6.2} {:>16.2} {:>6.2}",
                of_kind.len(),
                lasted.least,
                lasted.most,
                gap.median,
                gap.most,
                healed.median,
                healed.most,
                served.median,
                served.most
            )?;
        }
        Ok(())
    }
}

/// Of some times, in seconds.
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

fn spread(cuts: &[&Cut], time: impl Fn(&Cut) -> Duration) -> Spread {
    let mut times: Vec<_> = cuts.iter().map(|cut| time(cut).as_secs_f64()).collect();
    times.sort_by(f64::total_cmp);
    Spread {
        least: times[0],
        median: times[times.len() / 2],
        most: times[times.len() - 1],
    }
}
