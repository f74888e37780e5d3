//! Phases and their order.

use std::ops::Range;
use std::time::Duration;

use toml::de::DeValue;

use super::super::model::{FleetNodes, Phase, PhaseKind, RestartNodes};
use super::text::{Found, Section};
use crate::limits::PHASES_MAX;

/// Longest times of phases that name none: what takes longer has gone wrong on any machine that can hold the run.
const STORM_LIMIT_MS: u64 = 5 * 60_000;
const DRAIN_LIMIT_MS: u64 = 2 * 60_000;
const RAMP_SPARE_MS: u64 = 60_000;
const STEADY_SPARE_MS: u64 = 60_000;

/// The words of `do`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Ramp,
    Steady,
    Storm,
    Restart,
    Drain,
    /// Not a phase: some of them again and again.
    Repeat,
}

const WORDS: [(&str, Word); 6] = [
    ("ramp", Word::Ramp),
    ("steady", Word::Steady),
    ("storm", Word::Storm),
    ("restart", Word::Restart),
    ("drain", Word::Drain),
    ("repeat", Word::Repeat),
];

const ALL_KEYS: [&str; 11] = [
    "name", "limit", "commands", "rate", "for", "share", "nodes", "hook", "every", "times",
    "phases",
];

/// All of them, in their order, repetitions one by one.
pub(super) fn all(top: &Section<'_, '_>, devices: u32) -> Vec<Phase> {
    let sections = top.sections("phase");
    if sections.is_empty() {
        top.complain(
            "phase is missing: say what happens as [[phase]], with do = \"ramp\" first and do = \"drain\" last",
        );
    }
    let mut placed = Vec::new();
    for section in sections {
        section.read(|section| placed.extend(one_or_more(section, devices)));
    }
    if let Some((span, _)) = placed.get(PHASES_MAX) {
        let problem =
            format!("phase: at most {PHASES_MAX}, those that are repeated counted each time");
        top.complain_at(span, problem);
    }
    check_order(top, &placed);
    placed.into_iter().map(|(_, phase)| phase).collect()
}

/// Phases with their places.
type Placed = Vec<(Range<usize>, Phase)>;

fn check_order(top: &Section<'_, '_>, placed: &Placed) {
    let is_ramp = |phase: &Phase| matches!(phase.what, PhaseKind::Ramp { .. });
    let first_ramp = placed.iter().position(|(_, phase)| is_ramp(phase));
    for (index, (span, phase)) in placed.iter().enumerate() {
        let ramped = first_ramp.is_some_and(|ramp| ramp < index);
        let last = index + 1 == placed.len();
        let problem = match phase.what {
            PhaseKind::Ramp { .. } if ramped => "all devices have connected in the ramp before",
            PhaseKind::Storm { .. } if !ramped => "there is nothing to drop before a ramp",
            PhaseKind::Restart { .. } if !ramped => {
                "no device could come back: it stands before the ramp"
            }
            PhaseKind::Drain if !last => "nothing can follow a drain: nothing is sent any more",
            PhaseKind::Drain if !ramped => "there is nothing to drain without a ramp",
            PhaseKind::Drain => continue,
            _ if last => {
                "the last phase must be a drain (do = \"drain\"), or what is under way at the end would count as lost"
            }
            _ => continue,
        };
        top.complain_at(span, format!("phase.do: {problem}"));
    }
}

fn one_or_more(section: &Section<'_, '_>, devices: u32) -> Placed {
    let word = section.need("do", "one of ramp, steady, storm, restart, drain, repeat");
    let place = word
        .as_ref()
        .map_or(section.span.clone(), |word| word.span.clone());
    let word = word.and_then(|word| word.choice(&WORDS));
    let Some(word) = word else {
        // Nobody knows which keys may stand there: ask for all, to say no more than is certain.
        for key in ALL_KEYS {
            section.get(key);
        }
        return Vec::new();
    };
    if word == Word::Repeat {
        return repeat(section, devices);
    }
    vec![(place, one(section, word, devices))]
}

fn repeat(section: &Section<'_, '_>, devices: u32) -> Placed {
    let times = section.need("times", "how often");
    let times = times.and_then(|times| times.whole(1..=PHASES_MAX as u64));
    let times = times.unwrap_or(1);
    let Some(found) = section.need(
        "phases",
        "what is repeated, such as [{ do = \"storm\", share = 0.02 }]",
    ) else {
        return Vec::new();
    };
    let mut round = Vec::new();
    for inner in found.sections("phases, such as [{ do = \"storm\", share = 0.02 }]") {
        inner.read(|inner| round.extend(one_or_more(inner, devices)));
    }
    let numbered = |n: u64| {
        round
            .iter()
            .map(move |(span, phase): &(Range<usize>, Phase)| {
                let name = format!("{} {n}/{times}", phase.name);
                (
                    span.clone(),
                    Phase {
                        name,
                        ..phase.clone()
                    },
                )
            })
    };
    // More than there may be need not be made to be refused.
    (1..=times)
        .flat_map(numbered)
        .take(PHASES_MAX + 1)
        .collect()
}

fn one(section: &Section<'_, '_>, word: Word, devices: u32) -> Phase {
    let name = section.get("name").and_then(|name| name.text());
    let limit = section.get("limit").and_then(|limit| limit.any_ms());
    let (what, usual_ms) = match word {
        Word::Ramp => ramp(section, devices),
        Word::Steady => steady(section),
        Word::Storm => (storm(section), STORM_LIMIT_MS),
        Word::Restart => (restart(section), STORM_LIMIT_MS),
        Word::Drain | Word::Repeat => (PhaseKind::Drain, DRAIN_LIMIT_MS),
    };
    let plain = WORDS.iter().find(|(_, other)| *other == word);
    Phase {
        name: name
            .or(plain.map(|(plain, _)| *plain))
            .unwrap_or_default()
            .to_owned(),
        what,
        limit_ms: limit.unwrap_or(usual_ms),
        commands: match word {
            Word::Drain | Word::Repeat => 0.0,
            Word::Ramp => times(section, 0.0),
            Word::Steady | Word::Storm | Word::Restart => times(section, 1.0),
        },
    }
}

/// How many times their rate commands have.
fn times(section: &Section<'_, '_>, default: f64) -> f64 {
    let commands = section.get("commands");
    let commands = commands.and_then(|commands| commands.number(0.0..=1_000.0));
    commands.unwrap_or(default)
}

/// One that names no limit may take twice its time, and a minute.
fn ramp(section: &Section<'_, '_>, devices: u32) -> (PhaseKind, u64) {
    let rate = section.need("rate", "connections a second");
    let per_s = rate.and_then(|rate| rate.number(0.1..=1e6)).unwrap_or(1.0);
    let alone = Duration::from_secs_f64(f64::from(devices) / per_s);
    let usual_ms = alone.as_millis() as u64 * 2 + RAMP_SPARE_MS;
    (PhaseKind::Ramp { per_s }, usual_ms)
}

fn steady(section: &Section<'_, '_>) -> (PhaseKind, u64) {
    let length = section.need("for", "how long, such as \"10m\"");
    let for_ms = length.and_then(|length| length.any_ms()).unwrap_or(1);
    (PhaseKind::Steady { for_ms }, for_ms + STEADY_SPARE_MS)
}

fn storm(section: &Section<'_, '_>) -> PhaseKind {
    let share = section.need(
        "share",
        "the share of devices that lose their sockets: 0.3 is 30 %",
    );
    let share = share.and_then(|share| share.number(0.0..=1.0));
    PhaseKind::Storm {
        share: share.unwrap_or(1.0),
    }
}

fn restart(section: &Section<'_, '_>) -> PhaseKind {
    let words = [
        ("proxies", FleetNodes::Proxies),
        ("brokers", FleetNodes::Brokers),
        ("redis", FleetNodes::Redis),
    ];
    let (nodes, hook) = (section.get("nodes"), section.get("hook"));
    let nodes = match (nodes, hook) {
        (Some(nodes), None) => word(&nodes, &words).map(RestartNodes::Fleet),
        (None, Some(hook)) => command(&hook),
        _ => {
            let choice = "give nodes = \"proxies\", \"brokers\" or \"redis\", or hook = [\"program\", \"argument\"]";
            section.complain(format!("{}: {choice}", section.name));
            None
        }
    };
    let every = section.get("every");
    let every = every.and_then(|every| every.ms(Duration::ZERO..=Duration::from_secs(86_400)));
    PhaseKind::Restart {
        nodes: nodes.unwrap_or(RestartNodes::Fleet(FleetNodes::Proxies)),
        every_ms: every.unwrap_or(5_000),
    }
}

fn word(found: &Found<'_, '_>, words: &[(&str, FleetNodes)]) -> Option<FleetNodes> {
    let indices: Vec<_> = words.iter().map(|(word, _)| *word).zip(0..).collect();
    let index: usize = found.choice(&indices)?;
    Some(words[index].1)
}

fn command(found: &Found<'_, '_>) -> Option<RestartNodes> {
    let text = |item: &toml::Spanned<DeValue<'_>>| match item.get_ref() {
        DeValue::String(text) => Some(text.as_ref().to_owned()),
        _ => None,
    };
    let words: Option<Vec<_>> = match found.value {
        DeValue::Array(items) if !items.is_empty() => items.iter().map(text).collect(),
        _ => None,
    };
    let words = words.filter(|words| !words[0].is_empty());
    words
        .map(RestartNodes::Hook)
        .or_else(|| found.no("a program and its arguments, such as [\"sh\", \"restart.sh\"]"))
}
