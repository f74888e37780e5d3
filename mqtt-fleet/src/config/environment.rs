//! Reading environment variables of the form `MQTT_FLEET_SECTION__KEY`.

use super::error::{ConfigError, nearest};
use super::keys::{ENVIRONMENT_PREFIX, KEYS, Key};
use super::typed::{Origin, Typed};

/// Variables with our prefix that are none of the broker's business: the project's own tests hand
/// them to each other, and a broker that a test starts inherits them.
const TESTS_ONLY: [&str; 4] = [
    "MQTT_FLEET_PYTHON",
    "MQTT_FLEET_NODE_MODULES",
    "MQTT_FLEET_KILL_ROUNDS",
    "MQTT_FLEET_SILENT_SOCKETS",
];
const TESTS_ONLY_PREFIX: &str = "MQTT_FLEET_TEST_";

/// Reads all variables with our prefix; adds every mistake to `errors`.
pub(super) fn read(
    variables: impl Iterator<Item = (String, String)>,
    errors: &mut Vec<ConfigError>,
) -> Typed {
    let mut typed = Typed::nothing();
    for (variable, text) in variables {
        if !variable.starts_with(ENVIRONMENT_PREFIX) || is_for_tests(&variable) {
            continue;
        }
        let Some(position) = KEYS.iter().position(|key| key.variable() == variable) else {
            errors.push(unknown(variable));
            continue;
        };
        let key = &KEYS[position];
        let origin = Origin::Environment(variable);
        match key.kind.parse(&text) {
            Some(value) => typed.set(position, value, origin),
            None => errors.push(ConfigError::BadValue {
                origin,
                key: key.path(),
                typed: format!("\"{text}\""),
                allowed: key.kind.allowed(),
            }),
        }
    }
    typed
}

fn is_for_tests(variable: &str) -> bool {
    TESTS_ONLY.contains(&variable) || variable.starts_with(TESTS_ONLY_PREFIX)
}

fn unknown(variable: String) -> ConfigError {
    let suggestion = nearest(&variable, KEYS.iter().map(Key::variable));
    let name = variable.clone();
    ConfigError::Unknown {
        origin: Origin::Environment(variable),
        what: "setting",
        name: name.trim_start_matches(ENVIRONMENT_PREFIX).to_owned(),
        suggestion,
    }
}
