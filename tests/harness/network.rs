//! A network of a test's own: the test runs itself again as a process in a new network namespace.

use std::process::Command;

/// The variable that tells a test which part it plays.
pub const PART: &str = "TEST_PART";

/// This test again, in a network of its own, which its loopback interface is not up in.
pub fn again(way: &[&str], test: &str, part: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(way).arg(std::env::current_exe().expect("a path")).args([test, "--exact", "--nocapture"]);
    command.env(PART, part);
    command
}

/// How this user may make a network: as root, or as root of a user namespace.
pub fn way_in() -> &'static [&'static str] {
    let works = |way: &&&[&str]| {
        let mut attempt = Command::new("unshare");
        attempt.args(**way).args(["ip", "link", "add", "a0", "type", "veth", "peer", "name", "b0"]);
        attempt.output().is_ok_and(|output| output.status.success())
    };
    let ways: [&[&str]; 2] = [&["-n"], &["-Urn"]];
    ways.iter().find(works).expect(
        "no network namespace can be made here: it takes `unshare` and `ip` (./check installs them), and either root \
         (CAP_SYS_ADMIN) or user namespaces (user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns)",
    )
}

/// Runs `ip` with these arguments in the network of this process.
pub fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("ip is installed (./check installs it)");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}
