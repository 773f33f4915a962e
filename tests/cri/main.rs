//! Kubernetes pods by CRI, under gam's three groupings, as a runtime of its own and in the place of runc's shim.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod cases;
mod safety;
mod streaming;
mod survival;

use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

use gam_tests::cri_node::Node;
use gam_tests::target::Containerd;
use libtest_mimic::{Arguments, Trial};

/// The nodes, one per grouping, each with a lock for cases that end what others would need.
static NODES: [OnceLock<Arc<Node>>; 3] = [const { OnceLock::new() }; 3];
static LOCKS: [Mutex<()>; 3] = [const { Mutex::new(()) }; 3];

/// The two ways of naming gam. Debian's containerd 1.6 runs its own shim whatever `runtime_path` says.
fn handlers() -> &'static [&'static str] {
    if Containerd::from_env() == Containerd::V1_6 { &["gam"] } else { &["gam", "dropin"] }
}

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    for (index, grouping) in ["pod", "namespace", "node"].into_iter().enumerate() {
        for handler in handlers() {
            for (name, case) in cases::ALL {
                trials.push(Trial::test(format!("{grouping}::{handler}::{name}"), move || {
                    let _guard = LOCKS[index].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    let node = NODES[index].get_or_init(|| Arc::new(Node::start(grouping)));
                    case(node, handler);
                    node.empty();
                    Ok(())
                }));
            }
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    let ends = NODES.iter().filter_map(OnceLock::get).map(|node| thread::spawn(move || node.shutdown()));
    let ends: Vec<_> = ends.collect();
    let left: Vec<String> = ends.into_iter().flat_map(|end| end.join().expect("the node's end")).collect();
    if !left.is_empty() {
        eprintln!("the suite left behind:\n  {}", left.join("\n  "));
        if !conclusion.has_failed() {
            std::process::exit(102);
        }
    }
    conclusion.exit()
}
