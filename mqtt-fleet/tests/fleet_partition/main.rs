//! A fleet keeps its promises while the network between its nodes loses everything, in both directions or in one: no
//! acknowledged message is lost (P2, P7), at `QoS` 2 none arrives twice (P3), order is kept (P4), a client id has one owner
//! (P5), and a session is found wherever its client comes back (P6). When the network is whole again the fleet heals by
//! itself.
//!
//! Every node has a network namespace of its own. `cargo xtask partition` makes the surroundings that this needs; see
//! docs/partitions.md.

#[path = "../common/mod.rs"]
mod common;

mod lease;
mod load;
mod net;
mod nodes;
mod scene;
mod settings;
mod table;

use scene::Scene;
use settings::Settings;

#[test]
#[ignore = "needs networks of its own: cargo xtask partition"]
fn cuts_of_the_network_break_no_promise() {
    let settings = Settings::in_effect();
    println!("{settings}");
    let mut scene = Scene::start(settings);
    scene.cut_all_in_turn();
    scene.finish();
}
