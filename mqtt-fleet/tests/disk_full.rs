//! A full disk: a clear sentence, exit code 6, and nothing acknowledged that is not stored.

mod common;

use std::path::PathBuf;
use std::time::Duration;

use common::small_disk::SmallDisk;
use common::{Broker, Client, Connect, Got, Options, Packet, Publish, Version, wire};

/// A small disk with a data folder.
struct Disk {
    // Unmounted before its folder goes.
    disk: SmallDisk,
    _dir: tempfile::TempDir,
}

impl Disk {
    fn new(size: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let disk = SmallDisk::mount(&dir.path().join("disk"), size);
        Self { disk, _dir: dir }
    }

    fn data(&self) -> PathBuf {
        self.disk.path().join("data")
    }
}

fn options(disk: &Disk) -> Options {
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
    let disk = Disk::new("8m");
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

    disk.disk.grow("64m");
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
    let disk = Disk::new("64k");
    let Err((status, output)) = Broker::try_start(options(&disk)) else {
        panic!("it starts on 64 KB with segments of 1 MB")
    };
    assert_eq!(status.code(), Some(6), "{output}");
    assert!(output.contains("full"), "{output}");
}
