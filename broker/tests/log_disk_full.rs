//! On a full disk the log says so, reports nothing durable that is not, and what was durable is
//! there when there is room again.

mod log_common;

use std::path::Path;
use std::process::Command;

use log_common::{body, try_open};
use mqtt_fleet_broker::log::{Appends, Durability, Log, LogError};

/// A small file system, unmounted at the end.
struct SmallDisk {
    at: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(kib: u32) -> Result<Self, String> {
        let at = tempfile::tempdir().expect("a folder");
        let size = format!("size={kib}k");
        run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs"], at.path())?;
        Ok(Self { at })
    }

    fn resize(&self, kib: u32) {
        let options = format!("remount,size={kib}k");
        run("mount", &["-o", &options], self.at.path()).expect("remounts");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run("umount", &[], self.at.path()).expect("unmounts");
    }
}

fn run(program: &str, args: &[&str], path: &Path) -> Result<(), String> {
    let output = Command::new(program).args(args).arg(path).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        Ok(())
    } else {
        Err(said)
    }
}

/// True if this user may mount; says on standard output why the test does nothing otherwise.
fn small_disk(kib: u32) -> Option<SmallDisk> {
    match SmallDisk::mount(kib) {
        Ok(disk) => Some(disk),
        Err(said) => {
            let root = Command::new("id")
                .arg("-u")
                .output()
                .expect("id runs")
                .stdout
                == b"0\n";
            let container = Path::new("/.dockerenv").exists();
            assert!(!root || container, "root could not mount a tmpfs: {said}");
            println!(
                "skipped: mounting a small file system needs root ({})",
                said.trim()
            );
            None
        }
    }
}

#[test]
fn a_disk_that_fills_up_loses_nothing_durable() {
    for (kib, durability) in [(4_000, Durability::Fsync), (6_500, Durability::Os)] {
        let Some(disk) = small_disk(kib) else { return };
        let data = disk.at.path().join("data");
        let options = log_common::options(durability);
        let (log, _) = Log::open(&data, options, Box::new(|| {})).expect("a megabyte fits");
        let mut next = 0;
        let mut batch = Appends::new();
        let failure = loop {
            for _ in 0..50 {
                batch.push(0, next, &body(0, next, 1000)).expect("fits");
                next += 1;
            }
            if let Err(failure) = log.append(&mut batch).and_then(|_| log.sync()) {
                break failure;
            }
            batch.clear();
            assert!(next < 20_000, "the disk is smaller than that");
        };
        assert!(matches!(failure, LogError::DiskFull { .. }), "{failure:?}");
        assert!(failure.to_string().contains("disk is full"), "{failure}");
        let durable = log.durable();
        assert!((1_000..next).contains(&durable), "{durable} of {next}");
        assert!(
            matches!(log.failure(), Some(LogError::DiskFull { .. })),
            "and it stays so"
        );
        drop(log);
        disk.resize(64_000);
        let (log, found) = try_open(&data, durability).expect("nothing is damaged");
        assert!(found.len() as u64 >= durable);
        assert!(
            found
                .iter()
                .enumerate()
                .all(|(at, record)| record.index == at as u64)
        );
        assert!(
            found
                .iter()
                .all(|record| record.body == body(0, record.index, 1000))
        );
        log_common::append(&log, 0, found.len() as u64..found.len() as u64 + 10, 100);
        log.sync().expect("there is room");
    }
}

#[test]
fn no_room_to_start_is_a_full_disk() {
    let Some(disk) = small_disk(512) else { return };
    let error = try_open(&disk.at.path().join("data"), Durability::Fsync).expect_err("no room");
    assert!(matches!(error, LogError::DiskFull { .. }), "{error:?}");
    disk.resize(8_000);
    assert!(try_open(&disk.at.path().join("data"), Durability::Fsync).is_ok());
}

#[test]
fn a_snapshot_without_room_leaves_the_old_one() {
    use std::io::Read;
    let Some(disk) = small_disk(2_000) else {
        return;
    };
    let store = mqtt_fleet_broker::log::SnapshotStore::open(disk.at.path()).expect("opens");
    store
        .write(0, 1, |out| out.write_all(b"small"))
        .expect("fits");
    let error = store
        .write(0, 2, |out| out.write_all(&vec![1; 4 << 20]))
        .expect_err("no room");
    assert!(matches!(error, LogError::DiskFull { .. }), "{error:?}");
    let mut found = store.latest(0).expect("undamaged").expect("there");
    let mut content = String::new();
    found
        .content
        .read_to_string(&mut content)
        .expect("readable");
    assert_eq!((found.index, &*content), (1, "small"));
}
