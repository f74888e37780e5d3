//! The files in `deploy/` go together, as far as can be told without a container engine. (HAProxy's configuration runs
//! in the tests of TLS, and so does the fleet of the compose file, without containers.)

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

fn deploy(path: &str) -> PathBuf {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    deploy.join(path).canonicalize().unwrap_or_else(|error| {
        panic!("deploy/{path}: {error}");
    })
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn toml_of(path: &str) -> toml::Table {
    let path = deploy(path);
    toml::from_str(&text(&path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What is read of a compose file. What is not named here is checked by nobody, so it is an error.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Compose {
    name: String,
    services: BTreeMap<String, Service>,
    networks: BTreeMap<String, Network>,
    volumes: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Service {
    image: String,
    build: Option<Build>,
    restart: String,
    #[serde(default)]
    depends_on: Vec<String>,
    #[serde(default)]
    command: Vec<String>,
    working_dir: Option<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    volumes: Vec<String>,
    #[serde(default)]
    ports: Vec<String>,
    networks: BTreeMap<String, Attachment>,
    stop_grace_period: Option<String>,
    #[serde(default)]
    sysctls: BTreeMap<String, String>,
    #[serde(default)]
    ulimits: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Build {
    context: String,
    dockerfile: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attachment {
    ipv4_address: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Network {
    internal: Option<bool>,
    ipam: Option<serde_json::Value>,
}

fn compose() -> Compose {
    let path = deploy("compose/compose.yaml");
    serde_yaml_ng::from_str(&text(&path)).unwrap_or_else(|error| panic!("compose.yaml: {error}"))
}

impl Compose {
    /// Services that run a role of ours: name, role, configuration file.
    fn nodes(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        let ours = self
            .services
            .iter()
            .filter(|(_, service)| service.build.is_some());
        ours.map(|(name, service)| match &service.command[..] {
            [role, flag, file] if flag == "--config" => {
                (name.as_str(), role.as_str(), file.as_str())
            }
            other => panic!("{name} runs {other:?}"),
        })
    }

    fn of_role(&self, role: &str) -> Vec<&str> {
        let nodes = self.nodes().filter(|(_, of, _)| *of == role);
        nodes.map(|(name, _, _)| name).collect()
    }
}

/// What is kept in no repository is made by commands of the README.
#[test]
fn the_readme_makes_what_the_configuration_names() {
    let (proxy, cluster) = (
        toml_of("compose/fleet/proxy.toml"),
        toml_of("compose/fleet/cluster.toml"),
    );
    let readme = text(&deploy("README.md"));
    let ignored = text(&deploy("compose/fleet/.gitignore"));
    for name in ["certificate", "key", "client_ca"] {
        let file = at(&proxy, "tls", name);
        assert!(file.starts_with("certs/"), "{file}");
    }
    assert!(readme.contains("dev-certs deploy/compose/fleet/certs "));
    let secret = at(&cluster, "secret", "file");
    assert!(readme.contains(&format!("> deploy/compose/fleet/{secret} ")));
    let ignored: Vec<_> = ignored.lines().collect();
    assert_eq!(ignored, ["/certs/".to_owned(), format!("/{secret}")]);
}

/// A copy of the fleet's folder with what its README has people add.
fn furnished() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let from = deploy("compose/fleet");
    for entry in std::fs::read_dir(&from).expect("readable") {
        let entry = entry.expect("readable");
        let is_config = entry.path().extension().is_some_and(|is| is == "toml");
        if is_config {
            std::fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("writable");
        }
    }
    std::fs::write(folder.path().join("secret"), "ab".repeat(32)).expect("writable");
    let certs = mqtt_fleet(folder.path())
        .args(["dev-certs", "certs"])
        .output();
    assert!(certs.expect("the binary runs").status.success());
    folder
}

fn mqtt_fleet(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-fleet"));
    command.current_dir(folder);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MQTT_FLEET_") {
            command.env_remove(name);
        }
    }
    command
}

fn check(folder: &Path, role: &str, file: &Path, environment: &BTreeMap<String, String>) {
    let mut command = mqtt_fleet(folder);
    command
        .args(["check", "--role", role, "--config"])
        .arg(file);
    let output = command.envs(environment).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", file.display());
}

/// Every TOML file is somebody's configuration, and that process takes it.
#[test]
fn every_configuration_is_accepted() {
    let compose = compose();
    let folder = furnished();
    let mut checked = vec![
        "mqtt-fleet.toml".to_owned(),
        "compose/fleet/cluster.toml".to_owned(),
    ];
    check(
        folder.path(),
        "standalone",
        &deploy("mqtt-fleet.toml"),
        &BTreeMap::new(),
    );
    for (name, role, file) in compose.nodes() {
        // These name the cluster file, which is read with them.
        check(
            folder.path(),
            role,
            Path::new(file),
            &compose.services[name].environment,
        );
        checked.push(format!("compose/fleet/{file}"));
    }
    let root = deploy("");
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path
                .strip_prefix(&root)
                .expect("below it")
                .display()
                .to_string();
            let is_toml = path.extension().is_some_and(|is| is == "toml");
            assert!(
                !is_toml || checked.contains(&name),
                "nobody reads deploy/{name}"
            );
        }
    }
}

#[test]
fn what_the_compose_file_names_is_there() {
    let compose = compose();
    let folder = deploy("compose");
    assert_eq!(compose.name, "mqtt-fleet");
    for (name, service) in &compose.services {
        for other in &service.depends_on {
            assert!(compose.services.contains_key(other), "{name} needs {other}");
        }
        for network in service.networks.keys() {
            assert!(compose.networks.contains_key(network), "{name}: {network}");
        }
        for volume in &service.volumes {
            let (source, _) = volume.split_once(':').expect("SOURCE:TARGET");
            let is_there = if source.starts_with('.') {
                folder.join(source).exists()
            } else {
                compose.volumes.contains_key(source)
            };
            assert!(is_there, "{name}: {source}");
        }
        if let Some(build) = &service.build {
            let context = folder.join(&build.context);
            assert!(context.join("Cargo.lock").is_file(), "{name}");
            assert!(context.join(&build.dockerfile).is_file(), "{name}");
            let ignore = format!("{}.dockerignore", build.dockerfile);
            assert!(context.join(ignore).is_file(), "{name}");
        }
        assert_eq!(service.restart, "unless-stopped", "{name}");
        assert!(service.ulimits.keys().all(|limit| limit == "nofile"));
        assert!(
            service.sysctls.keys().all(|name| name.starts_with("net.")),
            "{name}"
        );
        assert!(
            service.image.contains(':') || service.build.is_some(),
            "{name}"
        );
    }
    for (name, settings) in &compose.volumes {
        let is_plain = settings.as_object().is_some_and(serde_json::Map::is_empty);
        assert!(is_plain, "{name}: {settings}");
    }
    let inside = &compose.networks["inside"];
    assert!(inside.internal == Some(true) && inside.ipam.is_some());
    let open: Vec<_> = compose
        .services
        .iter()
        .filter(|(_, service)| !service.ports.is_empty())
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(open, ["haproxy"], "the rest is reached from inside only");
}

fn port(address: &str) -> &str {
    address.rsplit_once(':').expect("HOST:PORT").1
}

fn at<'a>(table: &'a toml::Table, section: &str, key: &str) -> &'a str {
    let value = &table[section][key];
    value.as_str().unwrap_or_else(|| panic!("{section}.{key}"))
}

/// HAProxy is told of each proxy, at its address, and asks its admin port.
#[test]
fn haproxy_finds_the_proxies() {
    let compose = compose();
    let haproxy = &compose.services["haproxy"];
    let config = text(&deploy("haproxy/haproxy.cfg"));
    for variable in haproxy.environment.keys() {
        assert!(
            config.contains(&format!("${{{variable}-")),
            "{variable} has no effect"
        );
    }
    let (outer, inner) = haproxy.ports[0].split_once(':').expect("OUTER:INNER");
    assert_eq!(outer, inner);
    assert_eq!(inner, port(&haproxy.environment["MQTTS_BIND"]));
    assert!(haproxy.environment["STATS_BIND"].starts_with("127.0.0.1:"));

    let mut check = Command::new(common::tools::haproxy());
    check.args(["-c", "-f"]).arg(deploy("haproxy/haproxy.cfg"));
    let output = check.envs(&haproxy.environment).output();
    let output = output.expect("haproxy is installed (apt-get install haproxy)");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.to_lowercase().contains("warning"), "{said}");

    let proxy = toml_of("compose/fleet/proxy.toml");
    let proxies = compose.of_role("proxy");
    assert_eq!(proxies.len(), 2);
    for (number, name) in (1..).zip(proxies) {
        let at_inside = &compose.services[name].networks["inside"];
        let ip = at_inside.ipv4_address.as_ref().expect("a fixed address");
        let server = format!("{ip}:{}", port(at(&proxy, "tls", "balancer")));
        assert_eq!(haproxy.environment[&format!("PROXY_{number}")], server);
        let admin = &haproxy.environment[&format!("PROXY_{number}_ADMIN_PORT")];
        assert_eq!(admin, port(at(&proxy, "listen", "admin")));
        assert!(
            config.contains(&format!("server proxy-{number} ")),
            "{name}"
        );
    }
}

/// Each member of a group is a service, which is where proxies and the other members look for it; and so is Redis.
#[test]
fn the_nodes_find_each_other() {
    let compose = compose();
    let cluster = toml_of("compose/fleet/cluster.toml");
    let broker = toml_of("compose/fleet/broker.toml");
    let mut members = Vec::new();
    for group in cluster["group"].as_array().expect("[[group]]") {
        for member in group["member"].as_array().expect("[[group.member]]") {
            let text = |key: &str| member[key].as_str().unwrap_or_else(|| panic!("{key}"));
            let name = text("name");
            let environment = &compose.services[name].environment;
            assert_eq!(environment["MQTT_FLEET_NODE__NAME"], name);
            for place in ["link", "peer"] {
                let listens = port(at(&broker, "listen", place));
                assert_eq!(text(place), format!("{name}:{listens}"));
            }
            members.push(name);
        }
    }
    members.sort_unstable();
    assert_eq!(members.len(), 6, "two groups of three");
    assert_eq!(members, compose.of_role("broker"));
    for name in compose.of_role("proxy") {
        assert_eq!(
            compose.services[name].environment["MQTT_FLEET_NODE__NAME"],
            name
        );
    }
    let proxy = toml_of("compose/fleet/proxy.toml");
    let urls = proxy["redis"]["urls"].as_array().expect("a list");
    for url in urls {
        let place = url.as_str().and_then(|url| url.strip_prefix("redis://"));
        let (host, port) = place
            .and_then(|place| place.split_once(':'))
            .expect("a URL");
        assert!(compose.services.contains_key(host), "{host}");
        assert_eq!(port, "6379", "Redis' own");
    }
}

/// A node keeps nothing outside of its volume, and has time to drain.
#[test]
fn volumes_and_patience_fit_the_nodes() {
    let compose = compose();
    for (name, role, file) in compose.nodes() {
        let service = &compose.services[name];
        assert!(service.volumes.contains(&format!("{name}:/data")), "{name}");
        let config = "./fleet:/etc/mqtt-fleet:ro".to_owned();
        assert!(service.volumes.contains(&config), "{name}");
        assert_eq!(service.working_dir.as_deref(), Some("/etc/mqtt-fleet"));
        let config = toml_of(&format!("compose/fleet/{file}"));
        let (section, key) = if role == "proxy" {
            ("cluster", "cache")
        } else {
            ("data", "dir")
        };
        assert_eq!(at(&config, section, key), "/data");
        // The default of drain.deadline_s is 10 s.
        assert!(
            !config.contains_key("drain"),
            "{name}: compare it with the period"
        );
        assert_eq!(service.stop_grace_period.as_deref(), Some("30s"), "{name}");
    }
}

/// The image is built from every crate, of a tree from which the rest is left out.
#[test]
fn the_dockerfile_gets_what_it_builds_from() {
    let root = deploy("..");
    let workspace: toml::Table = toml::from_str(&text(&root.join("Cargo.toml"))).expect("TOML");
    let members = workspace["workspace"]["members"]
        .as_array()
        .expect("a list");
    let ignore = text(&deploy("Dockerfile.dockerignore"));
    let mut let_in: Vec<_> = ignore
        .lines()
        .filter_map(|line| line.strip_prefix('!'))
        .collect();
    for path in &let_in {
        assert!(root.join(path).exists(), "{path}");
    }
    // What the launcher includes.
    assert!(let_in.contains(&"deploy/haproxy/haproxy.cfg"));
    let_in.retain(|path| root.join(path).join("Cargo.toml").is_file());
    let mut members: Vec<_> = members
        .iter()
        .filter_map(|member| member.as_str())
        .collect();
    members.sort_unstable();
    let_in.sort_unstable();
    assert_eq!(let_in, members);

    let dockerfile = text(&deploy("Dockerfile"));
    let last = dockerfile.rsplit("\nFROM ").next().expect("a stage");
    assert!(last.contains("\nUSER 65532:65532\n"), "not root");
    let exposed = last.lines().find_map(|line| line.strip_prefix("EXPOSE "));
    let exposed: Vec<_> = exposed.expect("EXPOSE").split(' ').collect();
    let (broker, proxy) = (
        toml_of("compose/fleet/broker.toml"),
        toml_of("compose/fleet/proxy.toml"),
    );
    for (table, section, key) in [
        (&proxy, "listen", "mqtt"),
        (&proxy, "tls", "balancer"),
        (&proxy, "listen", "admin"),
        (&broker, "listen", "link"),
    ] {
        assert!(
            exposed.contains(&port(at(table, section, key))),
            "{section}.{key}"
        );
    }
}
