use std::path::Path;
use std::time::Duration;

use broker::limits::{MachineLimits, QueueFull};
use broker::log::{Durability, LogOptions};
use proxy::limits::ProxyLimits;
use session_store::{RedisConfig, RedisMode};

use super::keys::KEYS;
use super::typed::Origin;
use super::*;

fn from(file: &str, environment: &[(&str, &str)]) -> Result<(Settings, Typed), Vec<String>> {
    from_as(Role::Standalone, file, environment)
}

fn from_as(
    role: Role,
    file: &str,
    environment: &[(&str, &str)],
) -> Result<(Settings, Typed), Vec<String>> {
    let mut errors = Vec::new();
    let mut typed = Typed::defaults();
    typed.overlay(file::parse(Path::new("fleet.toml"), file, &mut errors));
    let environment = environment
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    typed.overlay(environment::read(environment, &mut errors));
    let words = |errors: Vec<ConfigError>| errors.iter().map(ToString::to_string).collect();
    if !errors.is_empty() {
        return Err(words(errors));
    }
    match Settings::from_typed(role, &typed) {
        Ok(settings) => Ok((settings, typed)),
        Err(errors) => Err(words(errors)),
    }
}

fn complaint(file: &str) -> String {
    let errors = from(file, &[]).expect_err("the file is wrong");
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors.into_iter().next().expect("there is one")
}

#[test]
fn the_defaults_are_valid_and_mean_what_the_table_says() {
    let (settings, typed) = from("", &[]).expect("defaults are valid");
    assert_eq!(settings.ports[0].address.to_string(), "127.0.0.1:1883");
    assert_eq!(settings.admin.to_string(), "127.0.0.1:9883");
    assert_eq!(settings.log.durability, Durability::Fsync);
    assert_eq!(settings.log.segment_bytes, 32 << 20);
    assert_eq!(settings.proxy.drain, Duration::from_secs(10));
    assert!(settings.shards >= 1);
    assert_eq!(typed.iter().count(), KEYS.len());
}

#[test]
fn the_defaults_are_those_of_the_parts() {
    let (settings, _) = from("[shards]\ncount = 1", &[]).expect("valid");
    assert_eq!(settings.proxy, ProxyLimits::default());
    assert_eq!(settings.machine, MachineLimits::default());
    let log = LogOptions::default();
    assert_eq!(settings.log.cache_bytes, log.cache_bytes);
    assert_eq!(settings.log.segment_bytes, log.segment_bytes);
}

#[test]
fn the_largest_number_of_connections_is_that_of_all_shards_together() {
    let file = "[shards]\ncount = 4\n[limits]\nmax_connections = 9";
    let (settings, _) = from(file, &[]).expect("valid");
    assert_eq!(settings.proxy.connections_max, 9);
}

#[test]
fn bounds_of_every_number_fit_the_field_that_takes_it() {
    for largest in [false, true] {
        let mut typed = Typed::defaults();
        for (position, key) in KEYS.iter().enumerate() {
            if let value::Kind::Whole { min, max } = key.kind {
                let bound = if largest { max } else { min };
                typed.set(position, value::Value::Whole(bound), Origin::Default);
            }
        }
        for role in [Role::Standalone, Role::Broker, Role::Proxy] {
            Settings::from_typed(role, &typed).expect("every key at its bound");
        }
    }
}

#[test]
fn every_choice_means_something_of_its_own() {
    use broker::limits::ShareStrategy;

    let of = |section: &str, name: &str, word: &str| {
        from(&format!("[{section}]\n{name} = \"{word}\""), &[])
            .expect("valid")
            .0
    };
    for (word, meaning) in [
        ("fsync", Durability::Fsync),
        ("os", Durability::Os),
        ("memory", Durability::Memory),
    ] {
        assert_eq!(of("data", "durability", word).log.durability, meaning);
    }
    for (word, meaning) in [
        ("drop_oldest", QueueFull::DropOldest),
        ("drop_newest", QueueFull::DropNewest),
        ("refuse", QueueFull::Refuse),
    ] {
        assert_eq!(of("limits", "queue_full", word).machine.queue_full, meaning);
    }
    for (word, meaning) in [
        ("round_robin", ShareStrategy::RoundRobin),
        ("sticky", ShareStrategy::Sticky),
        ("least_in_flight", ShareStrategy::LeastInFlight),
        ("hash_by_client", ShareStrategy::HashByClient),
    ] {
        assert_eq!(
            of("shared", "strategy", word).machine.share_strategy,
            meaning
        );
    }
    assert_eq!(of("log", "format", "json").log_format, LogFormat::Json);
    assert_eq!(of("log", "level", "debug").log_level, "debug");
}

#[test]
fn a_file_sets_and_the_environment_overrides() {
    let file = "[limits]\nqueue_messages = 1_000\nqueue_full = \"refuse\"\n[data]\ndir = \"/srv\"";
    let variables = [("MQTT_FLEET_LIMITS__QUEUE_MESSAGES", "7"), ("PATH", "/bin")];
    let (settings, typed) = from(file, &variables).expect("valid");
    assert_eq!(settings.machine.queue_messages, 7);
    assert_eq!(settings.machine.queue_full, QueueFull::Refuse);
    assert_eq!(settings.data, Path::new("/srv"));
    let origin = |section, name| typed.origin(section, name).to_string();
    assert_eq!(
        origin("limits", "queue_messages"),
        "environment variable MQTT_FLEET_LIMITS__QUEUE_MESSAGES"
    );
    assert_eq!(origin("limits", "queue_full"), "fleet.toml:3");
    assert_eq!(origin("limits", "queue_bytes"), "default");
}

#[test]
fn a_wrong_value_is_named_with_line_key_and_what_is_allowed() {
    assert_eq!(
        complaint("\n[limits]\nqueue_messages = \"many\"\n"),
        "fleet.toml:3: limits.queue_messages = \"many\": expected a whole number from 1 to \
         100000000"
    );
    assert_eq!(
        complaint("[data]\n\n\ndurability = \"disk\""),
        "fleet.toml:4: data.durability = \"disk\": expected one of \"fsync\", \"os\", \"memory\""
    );
    assert_eq!(
        complaint("[limits]\nreceive_maximum = 0"),
        "fleet.toml:2: limits.receive_maximum = 0: expected a whole number from 1 to 65535"
    );
    assert_eq!(
        complaint("listen = 1883"),
        "fleet.toml:1: listen = 1883: expected a section: a line [listen], its keys below it"
    );
}

#[test]
fn an_unknown_name_is_an_error_that_suggests_the_nearest() {
    assert_eq!(
        complaint("[data]\ndurabilty = \"os\""),
        "fleet.toml:2: unknown key data.durabilty; did you mean data.durability?"
    );
    assert_eq!(
        complaint("[data]\nqueue_full = \"refuse\""),
        "fleet.toml:2: unknown key data.queue_full; did you mean limits.queue_full?"
    );
    assert_eq!(
        complaint("[limit]\nqueue_bytes = 9"),
        "fleet.toml:1: unknown section limit; did you mean limits?"
    );
    assert_eq!(complaint("[zebra]"), "fleet.toml:1: unknown section zebra");
}

#[test]
fn broken_toml_is_named_with_line_and_column() {
    let sentence = complaint("[data]\ndir = ./data\n");
    assert!(sentence.starts_with("fleet.toml:2:"), "{sentence}");
    assert!(!sentence.contains('\n'), "{sentence}");
}

#[test]
fn every_mistake_is_told_not_only_the_first() {
    let errors = from("[data]\na = 1\nb = 2", &[("MQTT_FLEET_X", "1")]).expect_err("three");
    assert_eq!(errors.len(), 3, "{errors:?}");
}

#[test]
fn an_unknown_variable_is_an_error_but_those_of_the_tests_are_not() {
    let errors = from("", &[("MQTT_FLEET_DATA_DIR", "/srv")]).expect_err("one underscore");
    assert_eq!(
        errors,
        [
            "environment variable MQTT_FLEET_DATA_DIR: unknown setting DATA_DIR; did you mean \
          MQTT_FLEET_DATA__DIR?"
        ]
    );
    from(
        "",
        &[("MQTT_FLEET_TEST_ADDR", "x"), ("MQTT_FLEET_PYTHON", "y")],
    )
    .expect("ignored");
}

#[test]
fn beyond_loopback_must_be_asked_for() {
    let sentence = complaint("[listen]\nmqtt = \"0.0.0.0:1883\"");
    assert!(
        sentence.starts_with("fleet.toml:2: listen.mqtt = \"0.0.0.0:1883\""),
        "{sentence}"
    );
    assert!(sentence.contains("--allow-anonymous"), "{sentence}");
    from(
        "[listen]\nmqtt = \"0.0.0.0:1883\"\nallow_anonymous = true",
        &[],
    )
    .expect("asked for");
    from("[listen]\nmqtt = \"[::1]:1883\"", &[]).expect("loopback, too");
}

#[test]
fn values_that_cannot_work_together_are_refused() {
    let sentence = complaint("[limits]\nqueue_bytes = 2048");
    assert!(sentence.starts_with("fleet.toml:2: limits.queue_bytes must be at least"));
    let places = [
        "[listen]\nadmin = \"127.0.0.1:1883\"",
        "[listen]\nmqtt = \"127.0.0.1:9883\"",
        "[listen]\nbalancer = \"127.0.0.1:1883\"",
        "[tls]\nbalancer = \"127.0.0.1:9883\"\ncertificate = \"c\"\nkey = \"k\"",
    ];
    for place in places {
        let sentence = complaint(place);
        assert!(sentence.contains("different ports"), "{sentence}");
        assert!(sentence.starts_with("fleet.toml:2: "), "{sentence}");
    }
}

#[test]
fn a_port_for_a_load_balancer_is_as_guarded_as_that_for_devices() {
    let sentence = complaint("[listen]\nbalancer = \"0.0.0.0:1884\"");
    assert!(
        sentence.starts_with("fleet.toml:2: listen.balancer = \"0.0.0.0:1884\"")
            && sentence.contains("--allow-anonymous"),
        "{sentence}"
    );
    let errors = from("[tls]\nbalancer = \"0.0.0.0:8884\"", &[]).expect_err("exposed");
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("tls.client_certificates"), "{errors:?}");
    let errors = from("[tls]\nbalancer = \"127.0.0.1:8884\"", &[]).expect_err("no files");
    let needed = |name: &str| {
        let wanted = format!("tls.balancer = \"127.0.0.1:8884\" needs tls.{name}");
        errors.iter().any(|error| error.contains(&wanted))
    };
    assert!(needed("certificate") && needed("key"), "{errors:?}");
    let (settings, _) = from("[listen]\nbalancer = \"127.0.0.1:1884\"", &[]).expect("valid");
    let says_whose: Vec<_> = settings.ports.iter().map(|p| p.proxy_protocol).collect();
    assert_eq!(says_whose, [false, true]);
}

#[test]
fn the_readme_table_lists_every_key_with_its_default() {
    let readme = include_str!("../../../README.md");
    for key in KEYS {
        let row = format!("| `{}` | `{}` |", key.path(), key.shown_default());
        assert!(readme.contains(&row), "README.md lacks the row {row}");
    }
}

#[test]
fn the_example_file_is_valid() {
    let example = include_str!("../../../deploy/mqtt-fleet.toml");
    let mut errors = Vec::new();
    file::parse(Path::new("deploy/mqtt-fleet.toml"), example, &mut errors);
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn a_setting_of_another_role_is_refused() {
    let typed = |section, name, value| {
        let mut flags = Typed::nothing();
        flags.set_flag(section, name, value, "--flag");
        flags
    };
    let refusal = |role, flags| -> Vec<String> {
        match load(role, flags, std::iter::empty(), None) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.iter().map(ToString::to_string).collect(),
        }
    };
    let dir = || typed("data", "dir", Value::Path("/srv".into()));
    assert_eq!(
        refusal(Role::Proxy, dir()),
        ["--flag: data.dir is no setting of a proxy; it is for a standalone broker or a broker"]
    );
    assert_eq!(refusal(Role::Broker, dir()), [""; 0]);
    let shards = || typed("shards", "count", Value::Whole(2));
    assert_eq!(refusal(Role::Broker, shards()).len(), 1);
    assert_eq!(refusal(Role::Proxy, shards()), [""; 0]);
    let name = || typed("node", "name", Value::Text("n".into()));
    assert_eq!(refusal(Role::Standalone, name()).len(), 1);
}

#[test]
fn a_proxy_says_where_its_session_store_is() {
    let store = |file: &str, environment: &[(&str, &str)]| {
        let (settings, typed) = from_as(Role::Proxy, file, environment)?;
        let shown = |value: &Value| format!("{value}").contains("hush");
        assert!(!typed.iter().any(|(_, value, _)| shown(value)));
        Ok::<_, Vec<String>>(settings.redis)
    };
    assert_eq!(store("", &[]), Ok(None));
    let urls = "MQTT_FLEET_REDIS__URLS";
    let of_file = store(
        "[redis]\nurls = [\"redis://a\", \"redis://b\"]\nmode = \"cluster\"\npassword = \"hush\"",
        &[],
    );
    let of_file = of_file.expect("valid").expect("a store");
    assert_eq!(of_file.urls, ["redis://a", "redis://b"]);
    assert_eq!(of_file.mode, RedisMode::Cluster);
    assert_eq!(of_file.password.as_deref(), Some("hush"));
    let default = store("", &[(urls, "redis://a")]).expect("valid");
    assert_eq!(default, Some(RedisConfig::new(["redis://a"])));
    let several = store("", &[(urls, "redis://a, redis://b")]).expect_err("which one?");
    assert!(
        several[0].starts_with(
            "environment variable MQTT_FLEET_REDIS__URLS: redis.urls: redis.mode single takes one"
        ),
        "{several:?}"
    );
    let number = store("[redis]\npassword = 12345", &[]).expect_err("no text");
    assert_eq!(
        number,
        ["fleet.toml:2: redis.password = (not shown): expected a text in quotes"]
    );
}

/// The limits of a queue and of a packet are those of different processes there.
#[test]
fn a_broker_is_not_asked_about_what_devices_see() {
    let mut flags = Typed::nothing();
    flags.set_flag("limits", "queue_bytes", Value::Whole(2048), "--flag");
    load(Role::Broker, flags.clone(), std::iter::empty(), None).expect("valid");
    load(Role::Standalone, flags, std::iter::empty(), None).expect_err("never one of 1 MiB");
}
