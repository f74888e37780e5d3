//! `mqtt-fleet dev-certs`: what it prints works, and it overwrites nothing.

use std::process::Command;

use crate::common::broker::free_address;
use crate::common::tools::Tool;
use crate::common::{Broker, Options};
use crate::support::{Certs, HOW, dev_certs};

#[test]
fn the_printed_configuration_and_commands_work() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = dev_certs(&folder.path().join("certs"), &["--host", "broker.example"]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    // The port is the default one, which another broker on this machine may have.
    let address = free_address();
    let text = text.replace("8883", &address.port().to_string());
    let config: Vec<_> = text
        .lines()
        .skip_while(|line| *line != "[tls]")
        .take_while(|line| !line.is_empty())
        .collect();
    let _broker = Broker::start_with(Options::config(&config.join("\n")));
    let command = |program: &str| {
        let line = text.lines().find(|line| line.trim().starts_with(program));
        let line = line.unwrap_or_else(|| panic!("no {program} in:\n{text}"));
        let words = line.split_whitespace().map(|word| word.trim_matches('\''));
        let mut command = Command::new("stdbuf");
        command.arg("-oL").args(words);
        command
    };
    let mut sub = Tool::start(command("mosquitto_sub").arg("-d"), HOW);
    sub.await_line("Subscribed (mid");
    Tool::start(&mut command("mosquitto_pub"), HOW).finish();
    sub.await_line("test/hello world");
}

#[test]
fn what_is_there_is_not_overwritten() {
    let certs = Certs::make();
    let before = std::fs::read(certs.path("ca.key")).expect("written");
    let folder = certs.path("");
    let output = dev_certs(&folder, &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let sentence = String::from_utf8_lossy(&output.stderr);
    assert!(
        sentence.contains("exists and is not overwritten"),
        "{sentence}"
    );
    assert_eq!(std::fs::read(certs.path("ca.key")).expect("there"), before);
}
