//! Many execs in one container: `soak [EXECS]`, 2000 by default. Prints what the shim costs after each twentieth of them, and
//! fails where its own memory, its threads or its descriptors keep growing.

use std::process::ExitCode;
use std::thread;

use gam_tests::case::Builder;
use gam_tests::daemon::{Daemon, Settings};
use gam_tests::processes;

const WORKERS: usize = 4;

fn main() -> ExitCode {
    let execs: usize = std::env::args().nth(1).map_or(2000, |text| text.parse().expect("soak [EXECS]"));
    let daemon = Daemon::start(Settings::new());
    let container = Builder::new(&daemon, "soak", "soak-1").sandbox("soak").run();
    let shim = container.shim();
    let part = (execs / 20 / WORKERS).max(1);
    let mut memory = Vec::new();
    println!("{:>8} {:>14} {:>8} {:>12}", "execs", "anonymous KiB", "threads", "descriptors");
    for step in 1..=20 {
        thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    for _ in 0..part {
                        let _ = container.exec("exit 0").run().finish();
                    }
                });
            }
        });
        let anonymous = processes::anonymous(shim).unwrap_or_default();
        let (threads, descriptors) = (processes::threads(shim), processes::descriptors(shim).len());
        println!("{:>8} {anonymous:>14} {threads:>8} {descriptors:>12}", step * part * WORKERS);
        memory.push(anonymous);
    }
    container.end();
    // The first half is warming up; after it only what each exec leaves behind can make the difference.
    let (half, last) = (memory[9..15].iter().max(), memory[15..].iter().min());
    if last > half.map(|half| half + 512).as_ref() {
        println!("memory keeps growing");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
