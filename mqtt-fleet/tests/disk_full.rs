//! A full disk: a clear sentence, exit code 6, and nothing acknowledged that is not stored.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{Broker, Client, Connect, Got, Options, Packet, Publish, Version, wire};

/// A file system in memory of a few megabytes; unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(size: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        mount(
            &[
                "-t",
                "tmpfs",
                "-o",
                &format!("size={size}"),
                "mqtt-fleet-test",
            ],
            dir.path(),
        );
        Self(dir)
    }

    fn grow(&self, size: &str) {
        mount(&["-o", &format!("remount,size={size}")], self.0.path());
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }
}

fn mount(args: &[&str], at: &Path) {
    let output = Command::new("mount")
        .args(args)
        .arg(at)
        .output()
        .expect("mount is installed");
    assert!(
        output.status.success(),
        "this test needs the right to mount a small file system (run it as root): {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, so that it goes even while a process still dies on it. A failure leaves a few megabytes behind.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn options(disk: &SmallDisk) -> Options {
    Options {
        config: "[data]\nsegment_mb = 1\n".into(),
        data: Some(disk.data()),
        ..Options::default()
    }
}

/// Publishes until the broker is gone; how many were acknowledged.
fn publish_until_the_end(client: &mut Client, qos: u8) -> u32 {
    let (mut sent, mut acked) = (0_u32, 0);
    loop {
        while sent - acked < 16 {
            let text = format!("{sent:0>1000}");
            let p = Publish::new("t", qos, text).id((sent % 60_000) as u16 + 1);
            if client.try_send(&wire::publish(Version::V5, &p)).is_none() {
                return drain_acks(client, acked);
            }
            sent += 1;
        }
        match client.next(Duration::from_secs(20)) {
            Got::Packet(Packet::PubAck { code, .. }) if code < 0x80 => acked += 1,
            Got::Packet(Packet::PubAck { .. } | Packet::Disconnect { .. }) => {}
            Got::Closed => return acked,
            other => panic!("{other:?} after {acked} of {sent}"),
        }
        assert!(sent < 100_000, "the disk never fills");
    }
}

/// Acknowledgements that had arrived before the connection broke.
fn drain_acks(client: &mut Client, mut acked: u32) -> u32 {
    while let Got::Packet(packet) = client.next(Duration::from_secs(5)) {
        acked += u32::from(matches!(packet, Packet::PubAck { code, .. } if code < 0x80));
    }
    acked
}

#[test]
fn what_was_acknowledged_before_the_disk_was_full_is_there_with_more_room() {
    let disk = SmallDisk::new("8m");
    let mut broker = Broker::start_with(options(&disk));
    let mut sub = Connect::v5("sub").persistent().open(&broker);
    sub.subscribe("t", 1);
    sub.disconnect();
    let mut publisher = Connect::v5("pub").persistent().open(&broker);
    let acked = publish_until_the_end(&mut publisher, 1);
    let status = broker.await_exit();
    let output = broker.output();
    assert_eq!(status.code(), Some(6), "{output}");
    let sentence = output
        .lines()
        .find(|l| l.contains("mqtt-fleet:") && l.contains("full"));
    let sentence = sentence.unwrap_or_else(|| panic!("no clear sentence in\n{output}"));
    assert!(
        sentence.contains(disk.data().to_str().expect("UTF-8")),
        "names the folder: {sentence}"
    );
    assert!(acked > 1000, "only {acked} fitted on 8 MB");

    disk.grow("64m");
    broker.restart();
    let mut sub = Connect::v5("sub").persistent().open(&broker);
    assert!(sub.present);
    for expected in 0..acked {
        assert_eq!(
            sub.take().text(),
            format!("{expected:0>1000}"),
            "{acked} were acknowledged"
        );
    }
}

#[test]
fn a_disk_that_is_full_at_the_start_is_said_at_once() {
    let disk = SmallDisk::new("64k");
    let Err((status, output)) = Broker::try_start(options(&disk)) else {
        panic!("it starts on 64 KB with segments of 1 MB")
    };
    assert_eq!(status.code(), Some(6), "{output}");
    assert!(output.contains("full"), "{output}");
}
