//! Each mistake with what is said of it.

use super::{Mistake, ReadError, parse};

/// A scenario with something of everything, and nothing wrong.
const GOOD: &str = r#"
seed = 7
[fleet]
proxies = 2
[[population]]
name = "meters"
devices = 10
keepalive = "60s"
client_id = "m-%n"
subscriptions = [{ filter = "d/%c/commands", qos = 1 }]
will = { topic = "d/%c/status" }
telemetry = { topic = "d/%c/telemetry", qos = 1, interval = "30s", payload = 60 }
reconnect = { first = "1s", longest = "20s" }
[[population]]
name = "others"
devices = 5
mqtt = "3.1.1"
[[consumer]]
name = "ingest"
share = "s"
filter = "d/+/telemetry"
[[commands]]
name = "control"
population = "meters"
topic = "d/%c/commands"
rate = 5
payload = 60
[[phase]]
do = "ramp"
rate = 100
[[phase]]
do = "steady"
for = "10s"
[[phase]]
do = "storm"
share = 0.5
[[phase]]
do = "drain"
[pass]
storm_s_max = 60
"#;

fn mistakes(text: &str) -> Vec<Mistake> {
    match parse("dir/own.toml", text) {
        Ok(scenario) => panic!("nothing wrong with {scenario:?}"),
        Err(ReadError::Mistakes(mistakes)) => mistakes,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn nothing_is_wrong_with_it_before() {
    let scenario = parse("dir/own.toml", GOOD).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((scenario.name.as_str(), scenario.seed), ("own", 7));
}

/// What is replaced in the good scenario, by what, and the end of the one sentence that comes of it.
const TABLE: &[(&str, &str, &str)] = &[
    (
        "seed = 7",
        "sed = 7",
        ":2:1: unknown key sed; did you mean seed?",
    ),
    (
        "seed = 7",
        "colour = 7",
        "unknown key colour; there are: name, about, seed, fleet, population, consumer, commands, phase, pass",
    ),
    (
        "seed = 7",
        "seed = -7",
        ":2:8: seed = -7: expected a whole number from 0 to 18446744073709551615",
    ),
    (
        "seed = 7",
        "seed =",
        ":2:7: string values must be quoted, expected literal string",
    ),
    (
        "seed = 7",
        "seed = 7\nname = \"\"",
        "name = \"\": expected a name of at most 64 letters, digits, '-', '_' and '.'",
    ),
    (
        "seed = 7",
        "seed = 7\nabout = 3",
        "about = 3: expected a text in quotes",
    ),
    (
        "proxies = 2",
        "proxys = 2",
        "unknown key fleet.proxys; did you mean proxies?",
    ),
    (
        "proxies = 2",
        "proxies = 101",
        "fleet.proxies = 101: expected a whole number from 1 to 100",
    ),
    (
        "proxies = 2",
        "durability = \"disk\"",
        "fleet.durability = \"disk\": expected one of \"fsync\", \"os\", \"memory\"",
    ),
    (
        "proxies = 2",
        "home_key = \"d/%n\"",
        "fleet.home_key = \"d/%n\": expected a topic with %c (and no %n), such as \"devices/%c\"",
    ),
    (
        "[fleet]\nproxies = 2",
        "fleet = 2",
        "fleet = 2: expected a section: a line [fleet], its keys below it",
    ),
    (
        "[fleet]\nproxies = 2",
        "[[fleet]]\nproxies = 2",
        "expected a section: a line [fleet], its keys below it",
    ),
    (
        "devices = 10\n",
        "devices = 0\n",
        "population.devices = 0: expected a whole number from 1 to 10000000",
    ),
    (
        "devices = 10\n",
        "",
        ":5:1: population.devices is missing: how many there are",
    ),
    (
        "devices = 5\n",
        "devices = 10_000_000\n",
        "population.devices = 10_000_000: expected a whole number from 1 to 9999990",
    ),
    (
        "name = \"others\"",
        "name = \"meters\"",
        ":15:8: population.name = \"meters\": expected a name that no other population has",
    ),
    (
        "keepalive = \"60s\"",
        "keepalive = 60",
        ":8:13: population.keepalive = 60: expected a duration with its unit, such as \"250ms\", \"10s\", \"5m\" or \"4h\"",
    ),
    (
        "keepalive = \"60s\"",
        "keepalive = \"19h\"",
        "population.keepalive = \"19h\": expected 0s to 18h 12m 15s, in whole milliseconds",
    ),
    (
        "keepalive = \"60s\"",
        "keepalive = \"1500ms\"",
        "population.keepalive = \"1500ms\": expected whole seconds",
    ),
    (
        "keepalive = \"60s\"",
        "keepaliv = \"60s\"",
        "unknown key population.keepaliv; did you mean keepalive?",
    ),
    (
        "client_id = \"m-%n\"",
        "client_id = \"meter\"",
        "expected %n in it, the number of the device: client ids must differ",
    ),
    (
        "client_id = \"m-%n\"",
        "client_id = \"m/%n\"",
        "expected a client id: no '%c', and no '/', '+' and '#', because topics contain it",
    ),
    (
        "client_id = \"m-%n\"",
        "client_id = \"m-%d-%n\"",
        "population.client_id = \"m-%d-%n\": expected no % but in %n (number of the device) and %c (its client id)",
    ),
    (
        "client_id = \"m-%n\"",
        "client_id = \"others-%n\"",
        ":14:1: population.client_id: population \"meters\" has \"others-%n\" too",
    ),
    (
        "\"d/%c/commands\", qos = 1 }]",
        "\"d/#/commands\", qos = 1 }]",
        "expected a topic filter ('#' must be a level of its own at the end of a filter (MQTT-4.7.1-1))",
    ),
    (
        "\"d/%c/commands\", qos = 1 }]",
        "\"$share/g/d/%c\", qos = 1 }]",
        "expected a filter without its share: consumers share by the key share",
    ),
    (
        "\"d/%c/commands\", qos = 1 }]",
        "\"d/%c/commands\", qos = 3 }]",
        ":10:52: population.subscriptions.qos = 3: expected a whole number from 0 to 2",
    ),
    (
        "\"d/%c/commands\", qos = 1 }]",
        "\"d/%c/comands\", qos = 1 }]",
        ":25:9: commands.topic: no subscription of \"meters\" matches it",
    ),
    (
        "\"d/%c/commands\", qos = 1 }]",
        "\"d/+/commands\", qos = 1 }]",
        "device 0 of \"meters\" would get those for device 1 as well; topic and filter need %c",
    ),
    (
        "\"d/%c/commands\", qos = 1 }]",
        "\"d/%c/commands\" }, { filter = \"d/%c/c/#\" }, { filter = \"d/%c/+\" }]",
        "more than one subscription of \"meters\" matches it",
    ),
    (
        "will = { topic = \"d/%c/status\" }\ntelemetry = { topic = \"d/%c/telemetry\"",
        "telemetry = { topic = \"d/%c/commands\"",
        ":11:23: population.telemetry.topic: devices of \"meters\" would get it by their filter \"d/m-0/commands\"",
    ),
    (
        "will = { topic = \"d/%c/status\" }",
        "will = { topic = \"d/+/status\" }",
        "population.will.topic = \"d/+/status\": expected a topic (topic name contains a wildcard (MQTT-3.3.2-2))",
    ),
    (
        "mqtt = \"3.1.1\"",
        "mqtt = 5",
        "population.mqtt = 5: expected one of \"3.1.1\", \"5\"",
    ),
    (
        "mqtt = \"3.1.1\"",
        "mqtt = \"3.1.1\"\nsession_expiry = \"1h\"",
        "population.session_expiry: in MQTT 3.1.1 the broker decides; say mqtt = \"5\", or leave this out",
    ),
    (
        "mqtt = \"3.1.1\"",
        "session = \"clean\"\nsession_expiry = \"1h\"",
        "population.session_expiry: a clean session ends with its connection; say session = \"persistent\", or leave this out",
    ),
    (
        "mqtt = \"3.1.1\"",
        "mqtt = \"3.1.1\"\nwill = { topic = \"a\", delay = \"1s\" }",
        "population.will.delay: MQTT 3.1.1 has no such thing; say mqtt = \"5\", or leave this out",
    ),
    (
        "mqtt = \"3.1.1\"",
        "tls = \"yes\"",
        "population.tls = \"yes\": expected true or false",
    ),
    (
        "interval = \"30s\", ",
        "",
        ":12:13: population.telemetry.interval is missing: the mean time between two messages of a device",
    ),
    (
        "interval = \"30s\", payload = 60",
        "interval = \"30s\", payload = 24",
        "population.telemetry.payload = 24: expected a whole number from 25 to 1048576",
    ),
    (
        "interval = \"30s\", payload = 60",
        "interval = \"30s\", payload = { from = 90, to = 60 }",
        "population.telemetry.payload: expected { from, to } with from <= to, or { min, mean, max } with min < mean <= max",
    ),
    (
        "interval = \"30s\", payload = 60",
        "interval = \"30s\", payload = 60, jitter = 1.5",
        "population.telemetry.jitter = 1.5: expected a number from 0 to 1",
    ),
    (
        "longest = \"20s\"",
        "longest = \"500ms\"",
        "population.reconnect.longest = \"500ms\": expected not less than first",
    ),
    (
        "filter = \"d/+/telemetry\"",
        "filter = \"d/%c/telemetry\"",
        "consumer.filter = \"d/%c/telemetry\": expected a filter for all devices, with + where their topics differ",
    ),
    (
        "name = \"control\"",
        "name = \"ingest\"",
        "commands.name = \"ingest\": expected a name that no other consumer and no other commands have",
    ),
    (
        "population = \"meters\"",
        "population = \"meter\"",
        ":24:14: commands.population: there is no population \"meter\"; did you mean meters?",
    ),
    (
        "rate = 5\n",
        "rate = 0\n",
        "commands.rate = 0: expected a number from 0.001 to 1000000",
    ),
    (
        "do = \"ramp\"\nrate = 100\n",
        "do = \"ramp\"\n",
        "phase.rate is missing: connections a second",
    ),
    (
        "do = \"ramp\"\nrate = 100\n",
        "do = \"steady\"\nfor = \"1s\"\n",
        ":35:6: phase.do: there is nothing to drop before a ramp",
    ),
    (
        "do = \"steady\"",
        "do = \"rest\"",
        "phase.do = \"rest\": expected one of \"ramp\", \"steady\", \"storm\", \"restart\", \"drain\", \"repeat\"",
    ),
    (
        "for = \"10s\"",
        "for = \"10s\"\nshare = 0.1",
        "unknown key phase.share; there are: do, name, limit, for, commands",
    ),
    (
        "share = 0.5",
        "share = 50",
        "phase.share = 50: expected a number from 0 to 1",
    ),
    (
        "do = \"drain\"\n",
        "do = \"restart\"\nnodes = \"brokers\"\n",
        "phase.do: the last phase must be a drain (do = \"drain\"), or what is under way at the end would count as lost",
    ),
    (
        "storm_s_max = 60",
        "qos0_lost_share_max = 0.1",
        "pass.qos0_lost_share_max: would judge nothing without messages at QoS 0",
    ),
    (
        "storm_s_max = 60",
        "storm_max = 60",
        "unknown key pass.storm_max; did you mean storm_s_max?",
    ),
    (
        "do = \"storm\"\nshare = 0.5",
        "do = \"restart\"\nhook = []",
        "expected a program and its arguments, such as [\"sh\", \"restart.sh\"]",
    ),
];

#[test]
fn each_mistake_is_named_with_its_place() {
    let mut wrong = Vec::new();
    for &(good, bad, said) in TABLE {
        assert_eq!(GOOD.matches(good).count(), 1, "{good:?} is there once");
        let found = mistakes(&GOOD.replace(good, bad));
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        let is_it =
            |sentence: &String| sentence.starts_with("dir/own.toml:") && sentence.contains(said);
        if !found.iter().any(is_it) {
            wrong.push(format!("{bad:?}: {said:?} is not in {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn all_mistakes_are_found_at_once_in_the_order_of_their_lines() {
    let text = GOOD
        .replace("seed = 7", "sed = 7")
        .replace("devices = 5", "devices = \"five\"")
        .replace("share = 0.5", "shares = 0.5");
    let found = mistakes(&text);
    let lines: Vec<_> = found.iter().map(|mistake| mistake.line).collect();
    assert_eq!(lines, [2, 16, 34, 36], "{found:#?}");
}

#[test]
fn an_empty_file_says_what_there_has_to_be() {
    let found = mistakes("");
    let keys: Vec<_> = found
        .iter()
        .map(|mistake| mistake.problem.split(' ').next())
        .collect();
    assert_eq!(keys, [Some("population"), Some("phase")]);
}

#[test]
fn a_repetition_is_written_out_and_bounded() {
    let repeat = |times: u32| {
        let phase = format!(
            "[[phase]]\ndo = \"repeat\"\ntimes = {times}\nphases = [\n  {{ do = \"steady\", for = \"1s\" }},\n  {{ do = \
             \"storm\", share = 0.1 }},\n]\n[[phase]]\ndo = \"drain\""
        );
        GOOD.replace("[[phase]]\ndo = \"drain\"", &phase)
    };
    let scenario = parse("own.toml", &repeat(2)).unwrap_or_else(|error| panic!("{error}"));
    let names: Vec<_> = scenario
        .phases
        .iter()
        .map(|phase| phase.name.as_str())
        .collect();
    let round = ["steady 1/2", "storm 1/2", "steady 2/2", "storm 2/2"];
    assert_eq!(names[..3], ["ramp", "steady", "storm"]);
    assert_eq!(names[3..7], round);
    let found = mistakes(&repeat(1_000));
    assert!(
        found
            .iter()
            .any(|mistake| mistake.problem.contains("at most 1000")),
        "{found:#?}"
    );
}
