//! Groups of three members keep their promises while leaders are killed with -9, the network between members loses
//! everything in both directions or in one, and the whole fleet is killed at once: no acknowledged message is lost (P2),
//! at `QoS` 2 none arrives twice (P3), order is kept (P4), and while a majority of each group is there, devices keep their
//! sockets and are served again soon (P9).
//!
//! Every node has a network namespace of its own. `cargo xtask failover` makes the surroundings that this needs; see
//! docs/operations.md.

#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code, reason = "the test of cuts uses its own part")]
#[path = "../fleet_partition/load.rs"]
mod load;
#[path = "../fleet_partition/net.rs"]
mod net;

mod cut;
mod devices;
mod nodes;
mod probe;
mod scene;
mod settings;
mod table;

use scene::Scene;
use settings::Settings;

#[test]
#[ignore = "needs networks of its own: cargo xtask failover"]
fn failovers_break_no_promise() {
    let settings = Settings::in_effect();
    println!("{settings}");
    let mut scene = Scene::start(settings);
    scene.kill_leaders();
    scene.cut_members();
    scene.judge_sockets();
    scene.kill_fleets();
    scene.finish();
}
