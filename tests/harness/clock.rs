//! Processes whose clock is wrong, by libfaketime: only the wall clock, so that their timers run as everybody's.

use std::path::PathBuf;
use std::process::Command;

/// Where `./check` unpacks it, and where Debian installs it.
const PLACES: [&str; 2] = ["tests/.cache/faketime/usr/lib", "/usr/lib"];

/// Sets a process' clock off by so many seconds.
pub fn shift(command: &mut Command, seconds: i64) {
    command.env("LD_PRELOAD", library());
    command.env("FAKETIME", format!("{seconds:+}")).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
}

fn library() -> PathBuf {
    let in_folder = |place: &str| {
        let machines = std::fs::read_dir(place).ok()?.filter_map(Result::ok);
        let found = machines.map(|machine| machine.path().join("faketime/libfaketimeMT.so.1"));
        found.into_iter().find(|library| library.exists())
    };
    let found = PLACES.iter().find_map(|place| in_folder(place)).expect("libfaketime is there (./check unpacks it)");
    found.canonicalize().expect("it exists")
}
