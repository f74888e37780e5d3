//! The MQTT clients of others that the black-box tests use: found on this machine, or installed.
//!
//! System packages are installed only as root on a system with apt; Python and Node packages go
//! into `target/test-clients`, never into the system.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, say};

const PAHO: &str = "paho-mqtt==2.1.0";
const MQTT_JS: &str = "mqtt@5";

/// The program, and the Debian package that has it.
const PROGRAMS: [(&str, &str); 9] = [
    ("mosquitto_pub", "mosquitto-clients"),
    ("mosquitto_sub", "mosquitto-clients"),
    ("python3", "python3"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("prlimit", "util-linux"),
    ("redis-server", "redis-server"),
    ("redis-cli", "redis-tools"),
    ("haproxy", "haproxy"),
];
/// Those that only tests with networks of their own use.
const NETWORK_PROGRAMS: [(&str, &str); 4] = [
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
];

/// Makes sure that every client is there. Returns the environment that tells the tests where.
pub(crate) fn provide(root: &Path) -> Result<Vec<(String, OsString)>, String> {
    let folder = root.join("target").join("test-clients");
    std::fs::create_dir_all(&folder)
        .map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    let all: Vec<_> = PROGRAMS.iter().map(|(program, _)| *program).collect();
    provide_programs(&all)?;
    let python = paho(&folder)?;
    let modules = mqtt_js(&folder)?;
    Ok(vec![
        ("MQTT_FLEET_PYTHON".into(), python.into()),
        ("MQTT_FLEET_NODE_MODULES".into(), modules.into()),
    ])
}

/// Makes sure that these programs, which are in the tables above, are there.
pub(crate) fn provide_programs(programs: &[&str]) -> Outcome {
    let known = PROGRAMS.iter().chain(&NETWORK_PROGRAMS);
    let missing: Vec<_> = known
        .filter(|(program, _)| programs.contains(program) && !is_installed(program))
        .collect();
    if missing.is_empty() {
        say(format_args!("{}: found", programs.join(", ")));
        return Ok(());
    }
    let mut packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    let programs: Vec<_> = missing.iter().map(|(program, _)| *program).collect();
    install(&packages).map_err(|why| format!("the tests need {}; {why}", programs.join(", ")))
}

/// Installs Debian packages, or says how to.
fn install(packages: &[&str]) -> Outcome {
    let list = packages.join(" ");
    if !is_installed("apt-get") {
        return Err(format!(
            "this is no Debian, so please install the equivalents of: {list}"
        ));
    }
    if !is_root() {
        return Err(format!(
            "only root can install what is missing: sudo apt-get install {list}"
        ));
    }
    say(format_args!("installing {list} with apt-get"));
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
        quietly(&mut command)
    };
    let mut args = vec!["install", "-y", "--no-install-recommends"];
    args.extend(packages);
    let installed = apt(&["update"]).and_then(|()| apt(&args));
    installed.map_err(|error| format!("{error}; by hand: apt-get install {list}"))
}

/// A virtual environment with paho-mqtt; its Python.
fn paho(folder: &Path) -> Result<PathBuf, String> {
    let venv = folder.join("venv");
    let python = venv.join("bin").join("python");
    if quietly(Command::new(&python).args(["-c", "import paho.mqtt.client"])).is_ok() {
        say("paho-mqtt (Python): found");
        return Ok(python);
    }
    say(format_args!("installing {PAHO} into {}", venv.display()));
    let create = || {
        quietly(
            Command::new("python3")
                .args(["-m", "venv", "--clear"])
                .arg(&venv),
        )
    };
    if create().is_err() {
        // Debian keeps the module for virtual environments in a package of its own.
        install(&["python3-venv"]).map_err(|why| format!("Python has no module venv; {why}"))?;
        create()?;
    }
    quietly(Command::new(&python).args(["-m", "pip", "install", "--quiet", PAHO]))
        .map_err(|error| format!("{PAHO} cannot be installed from PyPI: {error}"))?;
    Ok(python)
}

/// A folder with MQTT.js; its `node_modules`.
fn mqtt_js(folder: &Path) -> Result<PathBuf, String> {
    let node = folder.join("node");
    let modules = node.join("node_modules");
    if modules.join("mqtt").join("package.json").is_file() {
        say("MQTT.js: found");
        return Ok(modules);
    }
    say(format_args!("installing {MQTT_JS} into {}", node.display()));
    std::fs::create_dir_all(&node)
        .map_err(|error| format!("cannot create {}: {error}", node.display()))?;
    let npm = [
        "install",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
        MQTT_JS,
    ];
    quietly(Command::new("npm").arg("--prefix").arg(&node).args(npm))
        .map_err(|error| format!("{MQTT_JS} cannot be installed from npm: {error}"))?;
    Ok(modules)
}

/// Whether `program` is in a folder of the search path.
fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian has servers in a folder that the path of ordinary users lacks.
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders
        .into_iter()
        .any(|folder| folder.join(program).is_file())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|id| id.stdout.trim_ascii() == b"0")
}

/// Runs a command; shows what it said only if it fails.
fn quietly(command: &mut Command) -> Outcome {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("{program} cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "{program} failed ({}): {}",
        output.status,
        said.trim()
    ))
}
