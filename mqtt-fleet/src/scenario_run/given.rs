//! Targets that run already.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;

use loadtest::scenario::Scenario;
use loadtest::{RunArgs, Target, Trust};

use super::nodes;
use super::{RunFailure, restart};

/// What the flags say.
pub(super) fn target(args: &RunArgs, scenario: &Scenario) -> Result<Target, RunFailure> {
    let target = match &args.cluster_json {
        Some(path) => of_cluster(path)?,
        None => of_addresses(args)?,
    };
    fits(scenario, &target)?;
    Ok(target)
}

fn of_addresses(args: &RunArgs) -> Result<Target, RunFailure> {
    let addresses = resolve("--target", &args.target)?;
    let tls_addresses = resolve("--target-tls", &args.target_tls)?;
    let tls = match &args.tls_ca {
        Some(path) => Some(Trust {
            ca_pem: text(path)?,
            name: args
                .tls_name
                .clone()
                .unwrap_or_else(|| host(&args.target_tls)),
        }),
        None => None,
    };
    Ok(Target {
        addresses,
        tls_addresses,
        tls,
        about: "given".to_owned(),
        processes: Box::new(Vec::new),
        // Addresses alone do not say how to restart what is behind them.
        restart: None,
    })
}

fn of_cluster(path: &Path) -> Result<Target, RunFailure> {
    let wrong = |error| RunFailure::usage(format!("{}: {error}", path.display()));
    let nodes = nodes::read(path).map_err(wrong)?;
    let tls_addresses = nodes::addresses(&nodes, |addresses| addresses.mqtts);
    let tls = if tls_addresses.is_empty() {
        None
    } else {
        let ca = path.with_file_name("certs").join("ca.pem");
        let (ca_pem, name) = (text(&ca)?, "localhost".to_owned());
        Some(Trust { ca_pem, name })
    };
    let path = path.to_owned();
    let restart = restart::of_fleet(path.clone(), Arc::default());
    Ok(Target {
        addresses: nodes::addresses(&nodes, |addresses| addresses.mqtt),
        tls_addresses,
        tls,
        about: format!("{}, of a fleet that ran before", nodes::about(&nodes)),
        processes: Box::new(move || nodes::processes(&path)),
        restart: Some(restart),
    })
}

/// A target must have what the scenario needs of it.
fn fits(scenario: &Scenario, target: &Target) -> Result<(), RunFailure> {
    let tls = scenario
        .populations
        .iter()
        .find(|population| population.tls);
    if let Some(population) = tls
        && target.tls_addresses.is_empty()
    {
        return Err(RunFailure::usage(format!(
            "population \"{}\" uses TLS: say where with --target-tls ADDR,... and --tls-ca FILE",
            population.name
        )));
    }
    // Back ends connect without it.
    if target.addresses.is_empty() {
        return Err(RunFailure::usage(
            "say with --target ADDR,... where devices without TLS and back ends connect",
        ));
    }
    Ok(())
}

fn resolve(flag: &str, texts: &[String]) -> Result<Vec<SocketAddr>, RunFailure> {
    let one = |text: &String| {
        let failed = |why: String| RunFailure::usage(format!("{flag} {text}: {why}"));
        let mut found = text
            .to_socket_addrs()
            .map_err(|error| failed(error.to_string()))?;
        let none = || failed("no such address".to_owned());
        found.next().ok_or_else(none)
    };
    texts.iter().map(one).collect()
}

/// The host of the first address.
fn host(texts: &[String]) -> String {
    let first = texts.first().map_or("", String::as_str);
    let host = first.rsplit_once(':').map_or(first, |(host, _)| host);
    host.trim_matches(['[', ']']).to_owned()
}

fn text(path: &Path) -> Result<String, RunFailure> {
    let wrong = |error| RunFailure::usage(format!("{}: {error}", path.display()));
    std::fs::read_to_string(path).map_err(wrong)
}
