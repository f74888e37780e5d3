//! `cargo xtask sim`: runs the worlds of many seeds, or of one, and says which broke a promise.

use clap::{Parser, ValueEnum};
use mqtt_fleet_sim::invariants::Violation;
use mqtt_fleet_sim::{Fault, Lines, run, story};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Worlds of devices, proxies and groups, each made by a seed, with an oracle that remembers every acknowledgement.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask sim", bin_name = "cargo xtask sim")]
struct Args {
    /// How many seeds to run
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Run this one alone, and tell how a violation came about
    #[arg(long)]
    seed: Option<u64>,
    /// With --seed: print everything that happens
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Switch a known mistake on: a violation has to be found
    #[arg(long)]
    bad: Option<Bad>,
    /// Threads, each with one world at a time; by default one a processor
    #[arg(long)]
    threads: Option<usize>,
}

/// A known mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Bad {
    /// Entries are taken for stored before they are
    AckBeforeStore,
    /// A follower says that entries are stored before they are
    AnswerBeforeStore,
    /// A leader tells others of entries that are agreed on before it has stored them
    CommitBeforeStore,
    /// A leader acts though no majority has answered it
    LeadWithoutLease,
    /// A leader that has another member lead does not give way before
    LeadAfterHandover,
    /// A QoS 2 publish that comes again is a new one
    ForgetDeduplication,
    /// A connection that was taken over still acts
    IgnoreEpochs,
}

impl Bad {
    fn fault(self) -> Fault {
        match self {
            Self::AckBeforeStore => Fault::AckBeforeStore,
            Self::AnswerBeforeStore => Fault::AnswerBeforeStore,
            Self::CommitBeforeStore => Fault::CommitBeforeStore,
            Self::LeadWithoutLease => Fault::LeadWithoutLease,
            Self::LeadAfterHandover => Fault::LeadAfterHandover,
            Self::ForgetDeduplication => Fault::ForgetDeduplication,
            Self::IgnoreEpochs => Fault::IgnoreEpochs,
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let found = match args.seed {
        Some(seed) => one(&args, seed),
        None => many(&args),
    };
    match (found, args.bad) {
        (None, None) => ExitCode::SUCCESS,
        (Some((seed, violation)), bad) => {
            tell(seed, bad, &violation);
            if bad.is_some() {
                println!("the mistake is found");
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        (None, Some(bad)) => {
            println!("no violation: the simulator does not see {bad:?}");
            ExitCode::FAILURE
        }
    }
}

fn one(args: &Args, seed: u64) -> Option<(u64, Violation)> {
    let lines = if args.trace {
        Lines::Printed
    } else {
        Lines::Hashed
    };
    let outcome = run(seed, args.bad.map(Bad::fault), lines);
    println!(
        "seed {seed}: {} lines, {} messages, {} s of its own time, trace {:016x}",
        outcome.events,
        outcome.messages,
        outcome.time_us / 1_000_000,
        outcome.digest
    );
    outcome.violation.map(|violation| (seed, violation))
}

/// What the threads have come to.
#[derive(Default)]
struct Progress {
    next: AtomicU64,
    done: AtomicU64,
    messages: AtomicU64,
    seconds: AtomicU64,
    over: AtomicBool,
    /// The violation of the lowest seed.
    found: Mutex<Option<(u64, Violation)>>,
}

fn many(args: &Args) -> Option<(u64, Violation)> {
    let started = Instant::now();
    let progress = Progress::default();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.unwrap_or(processors).max(1);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(args, &progress, started));
        }
    });
    let done = progress.done.load(Ordering::Relaxed);
    println!(
        "{done} worlds, {} messages, {} hours of their own time, in {:.1} s",
        progress.messages.load(Ordering::Relaxed),
        progress.seconds.load(Ordering::Relaxed) / 3_600,
        started.elapsed().as_secs_f64()
    );
    progress
        .found
        .into_inner()
        .expect("no thread panics while it holds this")
}

fn work(args: &Args, progress: &Progress, started: Instant) {
    let mut said = Duration::ZERO;
    while !progress.over.load(Ordering::Relaxed) {
        let at = progress.next.fetch_add(1, Ordering::Relaxed);
        if at >= args.seeds {
            return;
        }
        let seed = args.first + at;
        let outcome = run(seed, args.bad.map(Bad::fault), Lines::Hashed);
        let done = progress.done.fetch_add(1, Ordering::Relaxed) + 1;
        progress
            .messages
            .fetch_add(outcome.messages as u64, Ordering::Relaxed);
        progress
            .seconds
            .fetch_add(outcome.time_us / 1_000_000, Ordering::Relaxed);
        if let Some(violation) = outcome.violation {
            // Seeds below it are under way and finish; none above it begins.
            progress.over.store(true, Ordering::Relaxed);
            let mut found = progress
                .found
                .lock()
                .expect("no thread panics while it holds this");
            if found.as_ref().is_none_or(|(lowest, _)| seed < *lowest) {
                *found = Some((seed, violation));
            }
        }
        if started.elapsed() >= said + Duration::from_secs(5) {
            said = started.elapsed();
            println!("{done} of {} worlds after {} s", args.seeds, said.as_secs());
        }
    }
}

fn tell(seed: u64, bad: Option<Bad>, violation: &Violation) {
    for line in story::of(seed, bad.map(Bad::fault), violation) {
        println!("{line}");
    }
    println!(
        "\nseed {seed} breaks {}: {}",
        violation.invariant, violation.text
    );
    let switch = bad.and_then(|bad| bad.to_possible_value());
    let switch = switch.map_or_else(String::new, |bad| format!(" --bad {}", bad.get_name()));
    println!("again: cargo xtask sim --seed {seed}{switch} --trace");
}
