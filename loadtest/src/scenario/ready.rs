//! The scenarios that come with the program.

use std::path::Path;

use super::Scenario;
use super::read::{self, ReadError};

/// A scenario that comes with the program.
#[derive(Debug, Clone, Copy)]
pub struct Ready {
    /// What it is called on the command line.
    pub name: &'static str,
    /// The file, to be read or copied.
    pub text: &'static str,
}

/// All of them, the smallest first.
pub const READY: [Ready; 5] = [
    Ready {
        name: "smoke",
        text: include_str!("../../scenarios/smoke.toml"),
    },
    Ready {
        name: "fleet-10k",
        text: include_str!("../../scenarios/fleet-10k.toml"),
    },
    Ready {
        name: "storm",
        text: include_str!("../../scenarios/storm.toml"),
    },
    Ready {
        name: "million",
        text: include_str!("../../scenarios/million.toml"),
    },
    Ready {
        name: "soak",
        text: include_str!("../../scenarios/soak.toml"),
    },
];

/// Why a scenario that was asked for is not there.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Neither a ready one nor a file.
    #[error(
        "there is no scenario \"{asked}\", and no such file; ready ones: {}",
        names()
    )]
    Unknown {
        /// As asked.
        asked: String,
    },
    /// It is there, and wrong.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Ready {
    /// The one of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        READY.iter().find(|ready| ready.name == name)
    }

    /// It, read.
    pub fn scenario(&self) -> Result<Scenario, ReadError> {
        read::parse(&format!("{}.toml", self.name), self.text)
    }
}

/// A ready scenario by its name, or one in a file. A file that is called like a ready one needs its path: `./smoke`.
pub fn load(asked: &str) -> Result<Scenario, LoadError> {
    if let Some(ready) = Ready::find(asked) {
        return Ok(ready.scenario()?);
    }
    let path = Path::new(asked);
    // What looks like a path gets the system's own word.
    let is_path = path.extension().is_some() || path.components().count() > 1;
    if !is_path && !path.exists() {
        let asked = asked.to_owned();
        return Err(LoadError::Unknown { asked });
    }
    Ok(read::read(path)?)
}

fn names() -> String {
    READY.map(|ready| ready.name).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ready_scenario_makes_sense_and_has_its_name() {
        for ready in READY {
            let scenario = ready.scenario().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(scenario.name, ready.name);
            assert!(!scenario.about.is_empty());
            assert!(scenario.pass.promises && scenario.pass.cpu_ratio_max == Some(1.0));
        }
    }

    #[test]
    fn the_million_is_a_million_through_enough_proxies() {
        let million = load("million").expect("ready");
        assert_eq!(million.device_count(), 1_000_000);
        let per_proxy = million.device_count() / u32::from(million.fleet.proxies);
        assert!(per_proxy < 19_000, "{per_proxy} of 20,000 descriptors");
        assert!(million.fleet.groups >= 2 && million.pass.run_s_max <= Some(1_200.0));
    }

    #[test]
    fn scaled_down_every_population_has_devices_and_their_numbers_stay_in_one_row() {
        let scaled = load("fleet-10k")
            .expect("ready")
            .scaled(0.001)
            .expect("possible");
        let devices: Vec<_> = scaled
            .populations
            .iter()
            .map(|one| one.devices.clone())
            .collect();
        assert_eq!(devices, [0..7, 7..10, 10..11, 11..12]);
        for factor in [0.0, -1.0, f64::NAN, f64::INFINITY, 11.0] {
            let refused = load("million").expect("ready").scaled(factor);
            assert!(refused.is_err(), "{factor}");
        }
    }

    #[test]
    fn what_is_not_there_is_said_with_what_is() {
        let unknown = load("smokee").expect_err("no such thing").to_string();
        assert_eq!(
            unknown,
            "there is no scenario \"smokee\", and no such file; ready ones: smoke, fleet-10k, storm, million, soak"
        );
        let missing = load("no/such/file.toml")
            .expect_err("no such thing")
            .to_string();
        assert!(
            missing.starts_with("cannot read the scenario no/such/file.toml: "),
            "{missing}"
        );
    }
}
