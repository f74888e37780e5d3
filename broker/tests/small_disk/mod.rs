//! A small file system for tests of full disks.
#![allow(dead_code, reason = "each test file uses a part")]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// A small file system, unmounted at the end.
pub(crate) struct SmallDisk {
    at: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(kib: u32) -> Result<Self, String> {
        let at = tempfile::tempdir().expect("a folder");
        let size = format!("size={kib}k");
        run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs"], at.path())?;
        Ok(Self { at })
    }

    /// Its folder.
    pub(crate) fn path(&self) -> &Path {
        self.at.path()
    }

    pub(crate) fn resize(&self, kib: u32) {
        let options = format!("remount,size={kib}k");
        run("mount", &["-o", &options], self.at.path()).expect("remounts");
    }

    /// Waits until nearly no space is left, looking ten times a second.
    pub(crate) fn wait_until_full(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.free_kib() > 32 {
            assert!(Instant::now() < deadline, "nobody fills the disk");
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }

    /// What is left of it.
    pub(crate) fn free_kib(&self) -> u64 {
        let said = run("df", &["--output=avail", "-k"], self.at.path()).expect("runs");
        let line = said.lines().nth(1).expect("a heading and a number");
        line.trim().parse().expect("a number")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A child process that another test is just starting may have a file of it open for a moment.
        run("umount", &["--lazy"], self.at.path()).expect("unmounts");
    }
}

/// What it says on standard output, or else on standard error.
fn run(program: &str, args: &[&str], path: &Path) -> Result<String, String> {
    let output = Command::new(program).args(args).arg(path).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(said(&output.stdout))
    } else {
        Err(said(&output.stderr))
    }
}

/// A file system of that size if this user may mount; says on standard output why the test does nothing otherwise.
pub(crate) fn small_disk(kib: u32) -> Option<SmallDisk> {
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
