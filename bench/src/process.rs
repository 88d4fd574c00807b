//! Processes as the kernel sees them: where they run, what they have used.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Outcome;

/// The core of the server that is measured.
pub(crate) const SERVER_CORE: &str = "0";
/// The core of everything else.
pub(crate) const LOAD_CORE: &str = "1";

/// A process that ends with this one.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    /// Runs `program` on one core.
    pub(crate) fn start(core: &str, program: &str, change: impl FnOnce(&mut Command)) -> Outcome<Self> {
        let mut command = Command::new("taskset");
        command.args(["-c", core, program]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        change(&mut command);
        let started = command.spawn();
        Ok(Self(started.map_err(|error| format!("taskset (util-linux) could not run {program}: {error}"))?))
    }

    /// CPU time of all its threads, the kernel's work for it included.
    pub(crate) fn cpu(&self) -> Outcome<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let (_, fields) = stat.rsplit_once(") ").ok_or("a stat line has a name")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
        let used = ticks(11).zip(ticks(12)).map(|(user, system)| user + system).ok_or("a stat line has times")?;
        Ok(Duration::from_millis(used * 1000 / TICKS_PER_SECOND))
    }

    /// Most memory it ever had, MiB.
    pub(crate) fn peak_mib(&self) -> Outcome<f64> {
        self.status_mib("VmHWM:")
    }

    /// The memory it has, MiB; an error when it has ended.
    pub(crate) fn memory_mib(&self) -> Outcome<f64> {
        self.status_mib("VmRSS:")
    }

    fn status_mib(&self, field: &str) -> Outcome<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)).ok_or("a process that lives has memory")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib / 1024.0)
    }

    /// Sends it a signal, by its number in `/proc`.
    pub(crate) fn signal(&self, name: &str) -> Outcome<()> {
        let sent = Command::new("kill").args(["-s", name, &self.0.id().to_string()]).output()?;
        if sent.status.success() { Ok(()) } else { Err(format!("no signal {name} reached the server").into()) }
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

/// `USER_HZ`, which is the same on every Linux.
const TICKS_PER_SECOND: u64 = 100;

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Lets all threads of a process onto these cores.
pub(crate) fn let_onto(cores: &str, process: &Process) -> Outcome<()> {
    let moved = Command::new("taskset").args(["-acp", cores, &process.0.id().to_string()]).output()?;
    if moved.status.success() { Ok(()) } else { Err(format!("the server cannot have the cores {cores}").into()) }
}

/// Moves this process to the core of the load.
pub(crate) fn step_aside() -> Outcome<()> {
    let own = std::process::id().to_string();
    let moved = Command::new("taskset").args(["-acp", LOAD_CORE, &own]).output();
    let moved = moved.map_err(|error| format!("taskset (util-linux) is needed: {error}"))?;
    if !moved.status.success() {
        return Err("two cores are needed, 0 for the server and 1 for the load".into());
    }
    Ok(())
}
