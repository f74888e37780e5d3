//! What the nodes of a fleet say about their settings, and the answers of `mqtt-fleet ctl`.

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

const USAGE: Option<i32> = Some(2);

const CLUSTER: &str = "[cluster]\nid = \"plant\"\n\n[secret]\nfile = \"secret\"\n\n[[group]]\nnumber = 0\n\
                       [[group.member]]\nname = \"broker-a\"\nlink = \"127.0.0.1:18931\"\n";
const SECOND: &str =
    "\n[[group]]\nnumber = 1\n[[group.member]]\nname = \"broker-b\"\nlink = \"127.0.0.1:18932\"\n";

/// A folder with a cluster file of this text and a secret.
fn folder(cluster: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(folder.path(), "cluster.toml", cluster);
    write(folder.path(), "secret", "a secret of 25 characters");
    folder
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).expect("a writable folder");
}

/// Exit code, standard output and standard error of the program run in `folder`.
fn run(folder: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-fleet"));
    command.args(args).current_dir(folder).stdin(Stdio::null());
    common::fleet::without_settings(&mut command);
    let output = command.output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// What the program complains of; it must refuse.
fn complaint(folder: &Path, args: &[&str]) -> String {
    let (code, stdout, stderr) = run(folder, args);
    assert_eq!(code, USAGE, "{stdout}{stderr}");
    stderr
}

#[test]
fn check_shows_a_node_with_its_place_in_the_fleet() {
    let folder = folder(CLUSTER);
    write(
        folder.path(),
        "node.toml",
        "[node]\nname = \"broker-a\"\n[cluster]\nfile = \"cluster.toml\"\n",
    );
    let args = ["check", "--role", "broker", "--config", "node.toml"];
    let (code, stdout, stderr) = run(folder.path(), &args);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(
        stdout.contains("# node broker-a of fleet plant"),
        "{stdout}"
    );
    assert!(
        stdout.contains("# member of group 0, links on 127.0.0.1:18931"),
        "{stdout}"
    );
    assert!(stdout.contains("[data]"), "a broker has data: {stdout}");
    assert!(!stdout.contains("max_connections"), "no devices: {stdout}");
    let args = [
        "check",
        "--role",
        "proxy",
        "--name",
        "p",
        "--cluster",
        "cluster.toml",
    ];
    let (code, stdout, stderr) = run(folder.path(), &args);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("max_connections"), "{stdout}");
    assert!(!stdout.contains("[data]"), "a proxy has none: {stdout}");
}

#[test]
fn a_node_without_cluster_file_name_or_seat_is_told_what_to_give() {
    let folder = folder(CLUSTER);
    let nothing = complaint(folder.path(), &["proxy"]);
    assert!(nothing.contains("--cluster FILE"), "{nothing}");
    let nameless = complaint(folder.path(), &["proxy", "--cluster", "cluster.toml"]);
    assert!(nameless.contains("--name NAME"), "{nameless}");
    let args = ["broker", "--cluster", "cluster.toml", "--name", "broker-z"];
    let stranger = complaint(folder.path(), &args);
    assert!(
        stranger.contains("\"broker-z\" is no member") && stranger.contains("broker-a"),
        "{stranger}"
    );
}

#[test]
fn a_setting_of_another_role_is_refused_where_it_stands() {
    let folder = folder(CLUSTER);
    write(folder.path(), "node.toml", "[data]\ndir = \"d\"\n");
    let args = ["check", "--role", "proxy", "--config", "node.toml"];
    let text = complaint(folder.path(), &args);
    assert!(
        text.contains("node.toml:2: data.dir is no setting of a proxy"),
        "{text}"
    );
}

#[test]
fn a_mistake_in_the_cluster_file_is_named_with_its_line() {
    let folder = folder(&CLUSTER.replace("number = 0", "number = 64"));
    let args = ["ctl", "where", "a", "--cluster", "cluster.toml"];
    let text = complaint(folder.path(), &args);
    assert!(text.contains("cluster.toml:8: group.number"), "{text}");
}

#[test]
fn where_names_key_slot_group_and_members() {
    let folder = folder(&format!("{CLUSTER}{SECOND}"));
    let ask = |topic: &str| {
        let args = ["ctl", "where", topic, "--cluster", "cluster.toml"];
        let (code, stdout, stderr) = run(folder.path(), &args);
        assert_eq!(code, Some(0), "{stderr}");
        stdout
    };
    let line = |answer: &str, name: &str| {
        let lines: Vec<_> = answer.lines().filter(|l| l.starts_with(name)).collect();
        lines.join("\n")
    };
    let topic = ask("devices/42/telemetry");
    assert_eq!(line(&topic, "key"), "key      devices/42");
    let filter = ask("devices/42/#");
    for name in ["slot", "group", "members"] {
        assert_eq!(line(&topic, name), line(&filter, name), "{name}");
        assert!(!line(&topic, name).is_empty(), "{name} of {topic}");
    }
    let every = ask("devices/+/telemetry");
    assert!(every.contains("every group"), "{every}");
    assert!(
        every.contains("group 0: broker-a (127.0.0.1:18931)")
            && every.contains("group 1: broker-b (127.0.0.1:18932)"),
        "{every}"
    );
    let groups: std::collections::BTreeSet<_> = (0..64)
        .map(|n| line(&ask(&format!("devices/{n}")), "group"))
        .collect();
    let both = ["group    0", "group    1"].map(str::to_owned);
    assert!(groups.iter().eq(&both), "{groups:?}");
}

#[test]
fn where_refuses_what_is_no_filter() {
    let folder = folder(CLUSTER);
    let args = ["ctl", "where", "a/#/b", "--cluster", "cluster.toml"];
    let text = complaint(folder.path(), &args);
    assert!(text.contains("\"a/#/b\" is no topic"), "{text}");
}
