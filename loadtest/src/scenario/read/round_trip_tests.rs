//! Whatever makes sense can be written down, and is read as it was meant.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::super::model::{
    Commands, Consumer, FleetNodes, FleetSpec, NextAddress, PayloadSize, Phase, PhaseKind,
    Population, Protocol, Reconnect, RestartNodes, Scenario, Subscription, Telemetry, Template,
    Thresholds, Will,
};
use super::parse;

proptest! {
    #[test]
    fn what_is_written_is_read(scenario in scenarios()) {
        let text = written(&scenario);
        match parse("any.toml", &text) {
            Ok(read) => prop_assert_eq!(read, scenario, "{}", text),
            Err(error) => prop_assert!(false, "{}\n{}", error, text),
        }
    }

    /// Not a panic, whatever stands there, and places within the text.
    #[test]
    fn any_text_is_read_or_refused(text in "(\\[\\[?(population|phase|pass|x)\\]\\]?\n|(name|devices|do|share|for) = (\"[a-zä%#+]{0,4}\"|-?[0-9]{1,4}|\\[\\]|\\{\\})\n){0,12}") {
        if let Err(super::ReadError::Mistakes(mistakes)) = parse("any.toml", &text) {
            prop_assert!(!mistakes.is_empty());
            let lines = text.split('\n').count();
            prop_assert!(mistakes.iter().all(|mistake| (1..=lines).contains(&mistake.line)));
        }
    }
}

fn scenarios() -> impl Strategy<Value = Scenario> {
    let populations = prop::collection::vec((population(), 1_u32..100_000), 1..4);
    let phases = prop::collection::vec(phase(), 0..5);
    let rest = (any::<u64>(), fleet(), thresholds());
    let commands = prop::option::of((0.5_f64..1e5, payload(), 1_u16..5));
    (populations, commands, phases, rest).prop_map(|(populations, commands, phases, rest)| {
        let (seed, fleet, mut pass) = rest;
        let populations = numbered(populations);
        let at_qos_0 = |one: &Population| one.telemetry.as_ref().is_some_and(|one| one.qos == 0);
        if !populations.iter().any(at_qos_0) {
            pass.qos0_lost_share_max = None;
        }
        let commands = commands.map(|(rate_per_s, payload, connections)| Commands {
            name: "commands".to_owned(),
            population: 0,
            connections,
            topic: Template("d/%c/commands".to_owned()),
            qos: 1,
            rate_per_s,
            payload,
        });
        let consumer = Consumer {
            name: "consumer".to_owned(),
            connections: 3,
            share: Some("s".to_owned()),
            filter: "d/+/telemetry/+".to_owned(),
            qos: 2,
        };
        Scenario {
            name: "any".to_owned(),
            about: "something \"quoted\" and ä".to_owned(),
            seed,
            fleet,
            populations,
            consumers: vec![consumer],
            commands: commands.into_iter().collect(),
            phases: framed(phases),
            pass,
        }
    })
}

/// In one row, with names of their own.
fn numbered(populations: Vec<(Population, u32)>) -> Vec<Population> {
    let mut first = 0;
    let numbered = populations.into_iter().enumerate();
    let numbered = numbered.map(|(index, (population, count))| {
        let devices = first..first + count;
        first = devices.end;
        let (name, client_id) = (format!("p{index}"), Template(format!("c{index}-%n")));
        Population {
            name,
            devices,
            client_id,
            ..population
        }
    });
    numbered.collect()
}

/// With a ramp before them, and a drain behind.
fn framed(phases: Vec<Phase>) -> Vec<Phase> {
    let phase = |what| Phase {
        name: "a name".to_owned(),
        what,
        limit_ms: 90_500,
        commands: 0.0,
    };
    let mut all = vec![phase(PhaseKind::Ramp { per_s: 12.5 })];
    all.extend(phases);
    all.push(phase(PhaseKind::Drain));
    all
}

fn population() -> impl Strategy<Value = Population> {
    let session = (any::<bool>(), any::<bool>(), 0_u32..100_000);
    let wills = prop::option::of((0_u8..3, any::<bool>(), 0_u32..1_000));
    let telemetry = (0_u8..3, 1_u64..10_000_000, 0.0_f64..1.0, payload());
    let address = prop::sample::select(vec![
        NextAddress::Same,
        NextAddress::Next,
        NextAddress::Random,
    ]);
    let reconnect = (10_u64..10_000, 0_u64..100_000, address);
    let rest = (any::<bool>(), any::<u16>(), prop::option::of(telemetry));
    (session, wills, reconnect, rest).prop_map(|(session, wills, reconnect, rest)| {
        let (v5, clean, expiry) = session;
        let (tls, keepalive_s, telemetry) = rest;
        Population {
            name: String::new(),
            devices: 0..0,
            protocol: if v5 { Protocol::V5 } else { Protocol::V311 },
            tls,
            keepalive_s,
            clean,
            session_expiry_s: if v5 && !clean { expiry } else { 0 },
            client_id: Template(String::new()),
            subscriptions: vec![Subscription {
                filter: Template("d/%c/commands".to_owned()),
                qos: 1,
            }],
            will: wills.map(|(qos, retain, delay_s)| Will {
                topic: Template("w/%n".to_owned()),
                qos,
                retain,
                delay_s: if v5 { delay_s } else { 0 },
                payload: "last words".to_owned(),
            }),
            telemetry: telemetry.map(|(qos, interval_ms, jitter, payload)| Telemetry {
                topic: Template("d/%c/telemetry/%n".to_owned()),
                qos,
                interval_ms,
                jitter,
                payload,
            }),
            reconnect: Reconnect {
                first_ms: reconnect.0,
                longest_ms: reconnect.0 + reconnect.1,
                address: reconnect.2,
            },
        }
    })
}

fn payload() -> impl Strategy<Value = PayloadSize> {
    prop_oneof![
        (25_u32..1_000_000).prop_map(PayloadSize::Fixed),
        (25_u32..1_000, 0_u32..1_000).prop_map(|(from, more)| PayloadSize::Even(from, from + more)),
        (25_u32..1_000, 1_u32..1_000, 0_u32..1_000).prop_map(|(min, mean, more)| {
            let max = min + mean + more;
            PayloadSize::Exponential { min, mean, max }
        }),
    ]
}

fn fleet() -> impl Strategy<Value = FleetSpec> {
    let durability = prop::sample::select(vec!["fsync", "os", "memory"]);
    let sizes = (1_u16..=100, 1_u16..=64, 1_u16..=256);
    (sizes, durability, any::<bool>()).prop_map(|(sizes, durability, home)| FleetSpec {
        proxies: sizes.0,
        groups: sizes.1,
        shards: sizes.2,
        durability: durability.to_owned(),
        home_key: home.then(|| "d/%c".to_owned()),
    })
}

fn phase() -> impl Strategy<Value = Phase> {
    let hook = vec!["sh".to_owned(), "a b".to_owned()];
    let nodes = prop::sample::select(vec![
        RestartNodes::Fleet(FleetNodes::Proxies),
        RestartNodes::Fleet(FleetNodes::Brokers),
        RestartNodes::Fleet(FleetNodes::Redis),
        RestartNodes::Hook(hook),
    ]);
    let what = prop_oneof![
        (1_u64..1_000_000_000).prop_map(|for_ms| PhaseKind::Steady { for_ms }),
        (0.001_f64..=1.0).prop_map(|share| PhaseKind::Storm { share }),
        (nodes, 0_u64..80_000_000)
            .prop_map(|(nodes, every_ms)| PhaseKind::Restart { nodes, every_ms }),
    ];
    (what, 1_u64..1_000_000_000, 0.0_f64..100.0).prop_map(|(what, limit_ms, commands)| Phase {
        name: "any".to_owned(),
        what,
        limit_ms,
        commands,
    })
}

fn thresholds() -> impl Strategy<Value = Thresholds> {
    let number = || prop::option::of(0.0_f64..1e6);
    let share = prop::option::of(0.0_f64..1.0);
    let lost = prop::option::of(any::<u32>());
    (any::<bool>(), share, lost, number(), number()).prop_map(
        |(promises, share, lost, one, other)| Thresholds {
            promises,
            qos0_lost_share_max: share,
            connections_lost_max: lost.map(u64::from),
            ramp_per_s_min: one,
            connect_p99_ms_max: other,
            proxy_bytes_per_connection_max: one,
            group_bytes_per_device_max: other,
            redis_bytes_per_device_max: one,
            cpu_ratio_max: other,
            simulator_bytes_per_device_max: one,
            run_s_max: other,
            ..Thresholds::default()
        },
    )
}

/// The scenario as a file.
fn written(scenario: &Scenario) -> String {
    let mut text = format!(
        "name = {:?}\nabout = {:?}\nseed = {}\n",
        scenario.name, scenario.about, scenario.seed
    );
    let fleet = &scenario.fleet;
    line(
        &mut text,
        format_args!("[fleet]\nproxies = {}", fleet.proxies),
    );
    line(
        &mut text,
        format_args!("groups = {}\nshards = {}", fleet.groups, fleet.shards),
    );
    line(
        &mut text,
        format_args!("durability = {:?}", fleet.durability),
    );
    if let Some(home_key) = &fleet.home_key {
        line(&mut text, format_args!("home_key = {home_key:?}"));
    }
    for population in &scenario.populations {
        write_population(&mut text, population);
    }
    write_backends(&mut text, scenario);
    for phase in &scenario.phases {
        write_phase(&mut text, phase);
    }
    write_thresholds(&mut text, &scenario.pass);
    text
}

fn write_backends(text: &mut String, scenario: &Scenario) {
    for consumer in &scenario.consumers {
        let Consumer {
            name,
            connections,
            filter,
            qos,
            ..
        } = consumer;
        line(
            text,
            format_args!("[[consumer]]\nname = {name:?}\nconnections = {connections}"),
        );
        line(
            text,
            format_args!(
                "filter = {filter:?}\nqos = {qos}\nshare = {:?}",
                consumer.share.as_deref().unwrap_or_default()
            ),
        );
    }
    for commands in &scenario.commands {
        let population = &scenario.populations[commands.population].name;
        line(
            text,
            format_args!(
                "[[commands]]\nname = {:?}\npopulation = {population:?}",
                commands.name
            ),
        );
        line(
            text,
            format_args!(
                "connections = {}\ntopic = {:?}",
                commands.connections, commands.topic.0
            ),
        );
        line(
            text,
            format_args!("qos = {}\nrate = {:?}", commands.qos, commands.rate_per_s),
        );
        line(text, format_args!("payload = {}", size(commands.payload)));
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a String cannot fail");
}

fn write_population(text: &mut String, population: &Population) {
    let Population {
        name,
        tls,
        keepalive_s,
        client_id,
        ..
    } = population;
    let v5 = population.protocol == Protocol::V5;
    let mqtt = if v5 { "5" } else { "3.1.1" };
    line(
        text,
        format_args!(
            "[[population]]\nname = {name:?}\ndevices = {}",
            population.devices.len()
        ),
    );
    line(
        text,
        format_args!("mqtt = {mqtt:?}\ntls = {tls}\nkeepalive = \"{keepalive_s}s\""),
    );
    line(text, format_args!("client_id = {:?}", client_id.0));
    line(
        text,
        format_args!(
            "session = {:?}",
            if population.clean {
                "clean"
            } else {
                "persistent"
            }
        ),
    );
    if v5 && !population.clean {
        line(
            text,
            format_args!("session_expiry = \"{}s\"", population.session_expiry_s),
        );
    }
    let one = |subscription: &Subscription| {
        format!(
            "{{ filter = {:?}, qos = {} }}",
            subscription.filter.0, subscription.qos
        )
    };
    let filters: Vec<_> = population.subscriptions.iter().map(one).collect();
    line(
        text,
        format_args!("subscriptions = [{}]", filters.join(", ")),
    );
    write_parts(text, population);
}

fn write_parts(text: &mut String, population: &Population) {
    let v5 = population.protocol == Protocol::V5;
    if let Some(Will {
        topic,
        qos,
        retain,
        delay_s,
        payload,
    }) = &population.will
    {
        let delay = if v5 {
            format!("delay = \"{delay_s}s\", ")
        } else {
            String::new()
        };
        line(
            text,
            format_args!(
                "will = {{ topic = {:?}, qos = {qos}, retain = {retain}, {delay}payload = {payload:?} }}",
                topic.0
            ),
        );
    }
    if let Some(Telemetry {
        topic,
        qos,
        interval_ms,
        jitter,
        payload,
    }) = &population.telemetry
    {
        let payload = size(*payload);
        line(
            text,
            format_args!(
                "telemetry = {{ topic = {:?}, qos = {qos}, interval = \"{interval_ms}ms\", jitter = {jitter:?}, payload = {payload} }}",
                topic.0
            ),
        );
    }
    let Reconnect {
        first_ms,
        longest_ms,
        address,
    } = &population.reconnect;
    let address = format!("{address:?}").to_lowercase();
    line(
        text,
        format_args!(
            "reconnect = {{ first = \"{first_ms}ms\", longest = \"{longest_ms}ms\", address = {address:?} }}"
        ),
    );
}

fn size(size: PayloadSize) -> String {
    match size {
        PayloadSize::Fixed(bytes) => bytes.to_string(),
        PayloadSize::Even(from, to) => format!("{{ from = {from}, to = {to} }}"),
        PayloadSize::Exponential { min, mean, max } => {
            format!("{{ min = {min}, mean = {}, max = {max} }}", min + mean)
        }
    }
}

fn write_phase(text: &mut String, phase: &Phase) {
    let what = match &phase.what {
        PhaseKind::Ramp { per_s } => format!("do = \"ramp\"\nrate = {per_s:?}"),
        PhaseKind::Steady { for_ms } => format!("do = \"steady\"\nfor = \"{for_ms}ms\""),
        PhaseKind::Storm { share } => format!("do = \"storm\"\nshare = {share:?}"),
        PhaseKind::Restart { nodes, every_ms } => {
            let nodes = match nodes {
                RestartNodes::Hook(words) => format!("hook = {words:?}"),
                RestartNodes::Fleet(nodes) => {
                    format!("nodes = {:?}", format!("{nodes:?}").to_lowercase())
                }
            };
            format!("do = \"restart\"\n{nodes}\nevery = \"{every_ms}ms\"")
        }
        PhaseKind::Drain => "do = \"drain\"".to_owned(),
    };
    line(
        text,
        format_args!(
            "[[phase]]\nname = {:?}\n{what}\nlimit = \"{}ms\"",
            phase.name, phase.limit_ms
        ),
    );
    if phase.what != PhaseKind::Drain {
        line(text, format_args!("commands = {:?}", phase.commands));
    }
}

fn write_thresholds(text: &mut String, pass: &Thresholds) {
    line(text, format_args!("[pass]\npromises = {}", pass.promises));
    if let Some(lost) = pass.connections_lost_max {
        line(text, format_args!("connections_lost_max = {lost}"));
    }
    for (key, figure) in [
        ("qos0_lost_share_max", pass.qos0_lost_share_max),
        ("ramp_per_s_min", pass.ramp_per_s_min),
        ("connect_p99_ms_max", pass.connect_p99_ms_max),
        (
            "proxy_bytes_per_connection_max",
            pass.proxy_bytes_per_connection_max,
        ),
        (
            "group_bytes_per_device_max",
            pass.group_bytes_per_device_max,
        ),
        (
            "redis_bytes_per_device_max",
            pass.redis_bytes_per_device_max,
        ),
        ("cpu_ratio_max", pass.cpu_ratio_max),
        (
            "simulator_bytes_per_device_max",
            pass.simulator_bytes_per_device_max,
        ),
        ("run_s_max", pass.run_s_max),
    ] {
        if let Some(figure) = figure {
            line(text, format_args!("{key} = {figure:?}"));
        }
    }
}
