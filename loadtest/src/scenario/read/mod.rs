//! Reading scenario files. All mistakes of a file are found in one go; each names file, line, column and key.
//!
//! | module       | what it holds                                               |
//! |--------------|-------------------------------------------------------------|
//! | `text`       | a TOML text, its sections, and where mistakes stand in it   |
//! | `value`      | what a value may be: numbers, durations, templates, sizes   |
//! | `population` | devices                                                     |
//! | `backend`    | consumers and commands                                      |
//! | `phase`      | phases and their order                                      |
//! | `pass`       | thresholds                                                  |
//! | `sense`      | what is fine alone and wrong together                       |

mod backend;
mod pass;
mod phase;
mod population;
mod sense;
mod text;
mod value;

use std::path::Path;

use self::text::{Section, Text};
use super::model::{FleetSpec, Scenario};
use crate::limits::{FLEET_GROUPS_MAX, FLEET_PROXIES_MAX, FLEET_SHARDS_MAX};

/// Why there is no scenario.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("cannot read the scenario {file}: {source}")]
    Unreadable {
        /// Its path.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is wrong: every mistake that was found, by line.
    #[error("{}", lines(.0))]
    Mistakes(Vec<Mistake>),
}

/// One mistake, with its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {problem}")]
pub struct Mistake {
    /// The file as it was named.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The key, what was typed, what is expected.
    pub problem: String,
}

/// Reads the scenario in a file.
pub fn read(path: &Path) -> Result<Scenario, ReadError> {
    let file = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&file, &text),
        Err(source) => Err(ReadError::Unreadable { file, source }),
    }
}

/// Reads a scenario's text; `file` is where it stands, for messages.
pub fn parse(file: &str, text: &str) -> Result<Scenario, ReadError> {
    let text = Text::new(file, text);
    let scenario = match text.document() {
        Some(document) => {
            let document = Section::document(&text, document.get_ref());
            Some(document.read(|top| scenario(file, top)))
        }
        None => None,
    };
    let mistakes = text.finish();
    match scenario {
        Some(scenario) if mistakes.is_empty() => Ok(scenario),
        _ => Err(ReadError::Mistakes(mistakes)),
    }
}

fn scenario(file: &str, top: &Section<'_, '_>) -> Scenario {
    let stem = Path::new(file)
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy();
    let name = top.get("name").and_then(|name| name.name());
    let about = top.get("about").and_then(|about| about.text());
    let seed = top.get("seed").and_then(|seed| seed.whole(0..=u64::MAX));
    let fleet = top.section("fleet").read(fleet);
    let (populations, places) = population::all(top);
    let (consumers, commands) = backend::all(top, &populations);
    let devices = populations.last().map_or(0, |last| last.devices.end);
    let scenario = Scenario {
        name: name.unwrap_or(&stem).to_owned(),
        about: about.unwrap_or_default().to_owned(),
        seed: seed.unwrap_or(1),
        fleet,
        populations,
        consumers,
        commands,
        phases: phase::all(top, devices),
        pass: top.section("pass").read(pass::thresholds),
    };
    sense::check(top, &scenario, &places);
    scenario
}

fn fleet(section: &Section<'_, '_>) -> FleetSpec {
    let count = |key, max, default: u16| {
        let found = section.get(key).and_then(|found| found.whole(1..=max));
        found.map_or(default, |count| count as u16)
    };
    let durability = section.get("durability");
    let words = ["fsync", "os", "memory"].map(|word| (word, word));
    FleetSpec {
        proxies: count("proxies", FLEET_PROXIES_MAX, 3),
        groups: count("groups", FLEET_GROUPS_MAX, 3),
        shards: count("shards", FLEET_SHARDS_MAX, 1),
        durability: durability
            .and_then(|durability| durability.choice(&words))
            .unwrap_or("fsync")
            .to_owned(),
        home_key: section
            .get("home_key")
            .and_then(|home_key| home_key.home_key()),
    }
}

fn lines(mistakes: &[Mistake]) -> String {
    let sentences: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
    sentences.join("\n")
}

#[cfg(test)]
mod mistakes_tests;
#[cfg(test)]
mod round_trip_tests;
