//! The fleet of `deploy/compose`, with its own configuration files, as processes on loopback: HAProxy, two proxies, two
//! groups of three members, Redis. A device resumes its TLS session wherever it comes back.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustls::{ClientConfig, HandshakeKind};

use crate::common::broker::{free_address, metric};
use crate::common::fleet::{Process, start_redis, without_settings};
use crate::common::tools::await_that;
use crate::haproxy::InFront;
use crate::proxy_protocol::header;
use crate::support::{Certs, TlsClient, both, mosquitto};

/// Publishes that a group has stored.
const LOGGED: &str = "mqtt_fleet_group_published_logged_total";
/// The members of each group.
const GROUPS: [[&str; 3]; 2] = [
    ["broker-0-0", "broker-0-1", "broker-0-2"],
    ["broker-1-0", "broker-1-1", "broker-1-2"],
];

/// A member of a group and where it listens.
#[derive(Clone, Copy)]
struct Places {
    name: &'static str,
    link: SocketAddr,
    peer: SocketAddr,
    admin: SocketAddr,
}

/// A proxy of the fleet.
struct Proxy {
    name: &'static str,
    tls: SocketAddr,
    admin: SocketAddr,
    process: Process,
}

struct Fleet {
    certs: Certs,
    redis: Process,
    proxies: [Proxy; 2],
    haproxy: InFront,
    _brokers: Vec<Process>,
    /// Of each group, where its members are.
    groups: [[Places; 3]; 2],
}

impl Fleet {
    fn start() -> Self {
        let certs = Certs::make_in("certs");
        let folder = certs.folder();
        let redis_at = free_address();
        let groups = GROUPS.map(|names| names.map(Places::of));
        copy_configuration(folder, redis_at, groups.as_flattened());
        let redis = start_redis(folder, redis_at, &[]);
        let broker = |member: &Places| {
            let places = [
                ("LISTEN__LINK", member.link),
                ("LISTEN__PEER", member.peer),
                ("LISTEN__ADMIN", member.admin),
            ];
            start(folder, "broker", member.name, &places)
        };
        let brokers: Vec<Process> = groups.as_flattened().iter().map(broker).collect();
        for broker in &brokers {
            broker.await_line("links on");
        }
        let proxies = ["proxy-1", "proxy-2"].map(|name| Proxy::start(folder, name));
        for proxy in &proxies {
            proxy.process.await_line("with TLS");
            let keys = "TLS session tickets have keys from the session store";
            proxy.process.await_line(keys);
        }
        let [one, two] = [&proxies[0], &proxies[1]].map(|proxy| (proxy.tls, proxy.admin));
        let haproxy = InFront::of_proxies(one, two);
        haproxy.await_ready();
        Self {
            certs,
            redis,
            proxies,
            haproxy,
            _brokers: brokers,
            groups,
        }
    }
}

impl Fleet {
    /// A topic of a group, as `ctl where` tells people.
    fn topic_of(&self, group: usize) -> String {
        let is_of_group = |topic: &String| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-fleet"));
            without_settings(&mut command);
            command.args(["ctl", "where", topic, "--cluster", "cluster.toml"]);
            let output = command.current_dir(self.certs.folder()).output();
            let answer = String::from_utf8(output.expect("it runs").stdout).expect("text");
            answer
                .lines()
                .any(|line| line == format!("group    {group}"))
        };
        let mut topics = (0..64).map(|n| format!("t/{n}"));
        topics.find(is_of_group).expect("each group has topics")
    }
}

impl Places {
    fn of(name: &'static str) -> Self {
        Self {
            name,
            link: free_address(),
            peer: free_address(),
            admin: free_address(),
        }
    }
}

impl Proxy {
    fn start(folder: &Path, name: &'static str) -> Self {
        let (tls, admin) = (free_address(), free_address());
        let process = start(
            folder,
            "proxy",
            name,
            &[
                ("TLS__BALANCER", tls),
                ("LISTEN__ADMIN", admin),
                ("LISTEN__MQTT", free_address()),
            ],
        );
        Self {
            name,
            tls,
            admin,
            process,
        }
    }
}

/// The configuration of `deploy/compose/fleet`, but for where things are.
fn copy_configuration(folder: &Path, redis: SocketAddr, brokers: &[Places]) {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/compose/fleet");
    for name in ["cluster.toml", "broker.toml", "proxy.toml"] {
        let text = std::fs::read_to_string(deploy.join(name)).expect("it is there");
        let mut text = text.replace("redis:6379", &redis.to_string());
        for Places {
            name, link, peer, ..
        } in brokers
        {
            text = text.replace(&format!("{name}:18930"), &link.to_string());
            text = text.replace(&format!("{name}:18931"), &peer.to_string());
        }
        std::fs::write(folder.join(name), text).expect("a writable folder");
    }
    std::fs::write(folder.join("secret"), "ab".repeat(32)).expect("a writable folder");
}

/// Starts a node with its places in the environment.
fn start(folder: &Path, role: &str, name: &str, places: &[(&str, SocketAddr)]) -> Process {
    let data = folder.join(name).display().to_string();
    let file = format!("{role}.toml");
    let mut command = Command::new("env");
    command.arg(format!("MQTT_FLEET_NODE__NAME={name}"));
    let kept = if role == "proxy" {
        "CLUSTER__CACHE"
    } else {
        "DATA__DIR"
    };
    command.arg(format!("MQTT_FLEET_{kept}={data}"));
    for (key, address) in places {
        command.arg(format!("MQTT_FLEET_{key}={address}"));
    }
    command.args([env!("CARGO_BIN_EXE_mqtt-fleet"), role, "--config", &file]);
    Process::run(name, folder, command)
}

/// Comes through a load balancer that is led to this proxy; whether the TLS session was resumed.
fn resumes(config: &Arc<ClientConfig>, proxy: &Proxy) -> bool {
    let open = || {
        let mut socket = TcpStream::connect(proxy.tls)?;
        socket.write_all(&header())?;
        let mut client = TlsClient::shake_over(config, socket)?;
        client.connect("device")?;
        io::Result::Ok(client)
    };
    let mut client = open().unwrap_or_else(|error| panic!("{}: {error}", proxy.name));
    // A ticket of TLS 1.3 comes after the handshake.
    client.ping();
    client.stream.conn.handshake_kind() == Some(HandshakeKind::Resumed)
}

#[test]
fn a_device_resumes_its_tls_session_on_another_proxy_also_without_redis() {
    let mut fleet = Fleet::start();
    for version in both() {
        let config = fleet.certs.client_with(&[version], Some(&fleet.certs));
        let config = Arc::new(config);
        let [one, two] = &fleet.proxies;
        assert!(!resumes(&config, one), "{version:?}: the first time");
        for proxy in [two, one, two] {
            assert!(resumes(&config, proxy), "{version:?}: {}", proxy.name);
        }
    }
    fleet.redis.kill9();
    for version in both() {
        let config = fleet.certs.client_with(&[version], Some(&fleet.certs));
        let config = Arc::new(config);
        assert!(!resumes(&config, &fleet.proxies[0]), "another device");
        assert!(resumes(&config, &fleet.proxies[1]), "with the keys at hand");
    }
}

/// Publishes that the members of a group have stored.
fn logged(group: &[Places]) -> f64 {
    let of_member = |member: &Places| metric(member.admin, &[LOGGED]);
    group.iter().map(of_member).sum()
}

/// Waits until all members of a group have stored one publish more. They say so a moment later than it is acknowledged.
fn await_more(group: &[Places], before: f64) {
    let have_more = || logged(group) >= before + 3.0;
    await_that(have_more, || format!("{} stored nothing", group[0].name));
}

/// What people would try; and then the proxy that their connections go through is killed.
#[test]
fn through_haproxy_messages_flow_and_another_proxy_takes_over() {
    let mut fleet = Fleet::start();
    let port = fleet.haproxy.address.port();
    let certs = &fleet.certs;
    let own = [
        "--cert",
        &certs.text("client.pem"),
        "--key",
        &certs.text("client.key"),
    ];
    // Every group has the filter, and each has one of the topics.
    let args = [&own[..], &["-d", "-t", "t/+", "-q", "1", "-F", ">%t %p"]].concat();
    let mut sub = mosquitto("mosquitto_sub", port, certs, &args);
    sub.await_line("Subscribed (mid");
    for (number, group) in fleet.groups.iter().enumerate() {
        let topic = fleet.topic_of(number);
        let before = logged(group);
        let args = [&own[..], &["-t", &topic, "-m", "hello", "-q", "1"]].concat();
        mosquitto("mosquitto_pub", port, certs, &args).finish();
        assert_eq!(sub.await_line(">"), format!(">{topic} hello"));
        await_more(group, before);
    }
    drop(sub);

    let config = Arc::new(certs.client_with(&both(), Some(certs)));
    let open = |id: &str| TlsClient::open(&config, fleet.haproxy.address, id);
    let mut clients = [(); 4].map(|()| open("").expect("gets in"));
    for client in &mut clients {
        client.ping();
    }
    fleet.proxies[0].process.kill9();
    // HAProxy tries another server where one refuses.
    for _ in 0..4 {
        let mut client = open("").expect("gets in by the other proxy");
        client.ping();
        let kind = client.stream.conn.handshake_kind();
        assert_eq!(kind, Some(HandshakeKind::Resumed));
    }
}
