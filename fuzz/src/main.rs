//! Runs one target, or all, for a time: `mqtt-fleet-fuzz TARGET|all --seconds N [--seed N]`.

use std::collections::HashSet;
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use mqtt_fleet_fuzz::mutation::{Random, mutate};
use mqtt_fleet_fuzz::targets::{TARGETS, Target};

/// One input that takes longer than this counts as a stall; the machine may be busy with others.
const STALL: Duration = Duration::from_secs(5);

/// How many inputs of a new kind are kept to make others from.
const POOL_MAX: usize = 20_000;

struct Arguments {
    target: String,
    seconds: u64,
    seed: u64,
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(problem) => {
            let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
            eprintln!("{problem}");
            eprintln!("usage: mqtt-fleet-fuzz TARGET|all --seconds N [--seed N]");
            eprintln!("targets: {}", names.join(", "));
            return ExitCode::from(2);
        }
    };
    let chosen = TARGETS
        .iter()
        .filter(|(name, _)| arguments.target == "all" || arguments.target == *name);
    for (name, target) in chosen {
        let time = Duration::from_secs(arguments.seconds);
        if let Err(input) = run(name, *target, time, arguments.seed) {
            eprintln!("{name}: failed on {input:02x?}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let target = words.next().ok_or("no target given")?;
    if target != "all" && !TARGETS.iter().any(|(name, _)| *name == target) {
        return Err(format!("no target is called {target}"));
    }
    let mut arguments = Arguments {
        target,
        seconds: 60,
        seed: 1,
    };
    while let Some(option) = words.next() {
        let value = words
            .next()
            .ok_or_else(|| format!("{option} needs a number"))?;
        let number = value
            .parse()
            .map_err(|_| format!("{value} is not a number"))?;
        match option.as_str() {
            "--seconds" => arguments.seconds = number,
            "--seed" => arguments.seed = number,
            _ => return Err(format!("unknown option {option}")),
        }
    }
    Ok(arguments)
}

/// Feeds the target until the time is over; the input that broke a promise is the error.
fn run(name: &str, target: Target, time: Duration, seed: u64) -> Result<(), Vec<u8>> {
    let mut random = Random::new(seed);
    let (mut pool, header_at) = seeds(name);
    let mut kinds = HashSet::new();
    let start = Instant::now();
    let (mut runs, mut longest) = (0_u64, Duration::ZERO);
    let mut waiting = pool.clone().into_iter();
    while start.elapsed() < time {
        let input = waiting
            .next()
            .unwrap_or_else(|| mutate(&mut random, &pool, header_at));
        let began = Instant::now();
        let Ok(kind) = catch_unwind(|| target(&input)) else {
            return Err(input);
        };
        longest = longest.max(began.elapsed());
        if longest > STALL {
            eprintln!("{name}: one input took {longest:?}");
            return Err(input);
        }
        runs += 1;
        if kinds.insert(kind) && pool.len() < POOL_MAX {
            pool.push(input);
        }
    }
    let (seconds, kinds) = (time.as_secs(), kinds.len());
    println!(
        "{name}: {runs} inputs in {seconds} s, {kinds} kinds, longest {longest:?}: no failure"
    );
    Ok(())
}

/// The first inputs of a target, and where in them a fixed header begins.
fn seeds(name: &str) -> (Vec<Vec<u8>>, Option<usize>) {
    let packets = packets();
    match name {
        "topic_filter" => {
            let texts = [
                "a/+/#\na/b/c",
                "$share/g/a/+\na/b",
                "$queue/#\n$SYS/x",
                "+/ü\n/ü",
                "#\n/",
            ];
            (
                texts.iter().map(|text| text.as_bytes().to_vec()).collect(),
                None,
            )
        }
        "message_read_from" => {
            let plain = b"\x10\x03\0\x02\0\0\0a/bhi".to_vec();
            let full = b"\x13\x01\0\x01\0\0\0\x07\0\0\0\x09\0\0\0a\x26\0\x01k\0\x01vx".to_vec();
            (vec![plain, full], None)
        }
        "decode_v3" | "roundtrip" => {
            let with_choice = |packet: &Vec<u8>| [&[0], &packet[..]].concat();
            (packets.iter().map(with_choice).collect(), Some(1))
        }
        _ => (packets, Some(0)),
    }
}

/// The packets of the protocol's test vectors.
fn packets() -> Vec<Vec<u8>> {
    let table = include_str!("../../protocol/tests/mqtt-packets.tsv");
    let rows = table.lines().filter(|line| !line.starts_with('#'));
    let hex = rows.filter_map(|line| line.rsplit('\t').next());
    hex.map(|hex| {
        let digits = (0..hex.len()).step_by(2);
        digits
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex"))
            .collect()
    })
    .collect()
}
