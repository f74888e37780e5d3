//! A fleet keeps its promises while its proxies, its brokers, Redis and the HAProxy in front of it are killed
//! with -9 in turn and come back: no acknowledged message is lost (P2, P7), at `QoS` 2 none arrives twice (P3), order is kept
//! (P4), and a session is found wherever its client comes back (P6).
//!
//! Here it is short. `cargo xtask chaos` is the same for as long as one wants; see docs/chaos.md.

#[path = "../common/mod.rs"]
mod common;

mod census;
mod scene;
mod settings;
mod table;
mod travels;

use scene::Scene;
use settings::Settings;

#[test]
fn kill_9_of_everything_in_turn_breaks_no_promise() {
    let settings = Settings::in_effect();
    println!("{settings}");
    let mut scene = Scene::start(settings);
    scene.kill_all_in_turn();
    scene.finish();
}
