//! Which crate may depend on which.

/// Each crate of the workspace with the crates of the workspace it may use. Dependencies of tests
/// (`[dev-dependencies]`) are free.
pub(super) const ALLOWED: [(&str, &[&str]); 10] = [
    ("protocol", &[]),
    ("cluster", &["protocol"]),
    ("session-store", &["protocol"]),
    ("broker", &["cluster", "protocol"]),
    ("proxy", &["cluster", "protocol", "session-store"]),
    ("loadtest", &["protocol"]),
    (
        "mqtt-fleet",
        &[
            "broker",
            "cluster",
            "loadtest",
            "protocol",
            "proxy",
            "session-store",
        ],
    ),
    (
        "sim",
        &["broker", "cluster", "protocol", "proxy", "session-store"],
    ),
    ("fuzz", &["protocol"]),
    ("xtask", &[]),
];

/// Checks one manifest. `name` is its path below the root, such as `broker/Cargo.toml`.
pub(super) fn check(name: &str, manifest: &str, findings: &mut Vec<String>) {
    let Some((folder, _)) = name.rsplit_once('/') else {
        return; // The workspace itself.
    };
    let Some((_, allowed)) = ALLOWED.iter().find(|(member, _)| *member == folder) else {
        findings.push(format!(
            "{name}: crate {folder} is not in the table of allowed edges"
        ));
        return;
    };
    let mut checked = false;
    for (number, line) in manifest.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            checked = matches!(line, "[dependencies]" | "[build-dependencies]");
            continue;
        }
        let dependency = line.split(['.', ' ', '=']).next().unwrap_or_default();
        let dependency = dependency.strip_prefix("mqtt-fleet-").unwrap_or(dependency);
        let ours = ALLOWED.iter().any(|(member, _)| *member == dependency);
        if checked && ours && !allowed.contains(&dependency) {
            let line = number + 1;
            findings.push(format!(
                "{name}:{line}: {folder} must not depend on {dependency}"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(name: &str, manifest: &str) -> Vec<String> {
        let mut findings = Vec::new();
        check(name, manifest, &mut findings);
        findings
    }

    #[test]
    fn an_edge_against_the_layers_is_found_in_each_spelling() {
        for line in [
            "proxy.workspace = true",
            "proxy = { path = \"../proxy\" }",
            "mqtt-fleet-proxy = \"1\"",
        ] {
            let manifest = format!("[dependencies]\nbytes = \"1\"\n{line}\n");
            assert_eq!(
                findings("broker/Cargo.toml", &manifest),
                ["broker/Cargo.toml:3: broker must not depend on proxy"],
                "{line}"
            );
        }
    }

    #[test]
    fn allowed_edges_and_those_of_tests_are_fine() {
        let manifest = "[dependencies]\ncluster.workspace = true\n[dev-dependencies]\n\
                        session-store.workspace = true\n";
        assert_eq!(findings("broker/Cargo.toml", manifest), [""; 0]);
    }

    #[test]
    fn a_new_crate_must_be_entered() {
        assert_eq!(findings("bridge/Cargo.toml", "").len(), 1);
    }
}
