//! What was measured beside what stands in the file.

use std::process::Command;

use crate::figures::Figures;
use crate::{Outcome, heap, instructions, say};

/// Percent by which bytes may differ: they are counted exactly, but a task may hold a buffer at the moment of the count.
const BYTES: u64 = 1;
/// Percent by which instructions may differ. Sets of runs lay within 1.5 % of each other: wake-ups come sooner or later.
const INSTRUCTIONS: u64 = 4;
/// And those of a delivery, which are few beside those of the connections that the runs need for it: within 5 %.
const OF_DELIVERY: u64 = 10;

/// One figure.
#[derive(Debug)]
struct Compared {
    what: &'static str,
    /// What the file says.
    expected: u64,
    got: u64,
    /// Percent.
    tolerance: u64,
}

/// Measures all, and compares it with the file or writes it there.
///
/// # Errors
/// With what changed.
pub(crate) async fn check_all(write: bool) -> Outcome<()> {
    if !cfg!(debug_assertions) {
        return Err(
            "the figures are of a debug build: run cargo build --workspace and target/debug/hallway-guards".into()
        );
    }
    let expected = Figures::read()?;
    let got = measure(&expected).await?;
    if write {
        got.write()?;
    }
    let rows = compare(&expected, &got);
    rows.iter().for_each(|row| say(&row.describe()));
    let changed: Vec<String> = rows.iter().filter(|row| !write && row.is_off()).map(Compared::describe).collect();
    if changed.is_empty() {
        return Ok(());
    }
    Err(format!("what changed:\n{}\n{}", changed.join("\n"), remedy(&expected, &got)).into())
}

async fn measure(before: &Figures) -> Outcome<Figures> {
    let session_bytes = heap::bytes_per_session().await?;
    let compiler = compiler()?;
    if !instructions::can_count() {
        say("   skipped: instructions, which need valgrind");
        return Ok(Figures { session_bytes, ..before.clone() });
    }
    let folder = std::env::current_exe()?.with_file_name("guards");
    let counted = instructions::count_all(&folder).await?;
    let instructions::Instructions { connection, join, publish, delivery } = counted;
    Ok(Figures { compiler, session_bytes, connection, join, publish, delivery })
}

fn compare(expected: &Figures, got: &Figures) -> [Compared; 5] {
    let row = |what, of: fn(&Figures) -> u64, tolerance| {
        let (expected, got) = (of(expected), of(got));
        Compared { what, expected, got, tolerance }
    };
    [
        row("bytes of heap per idle session", |figures| figures.session_bytes, BYTES),
        row("instructions per connection", |figures| figures.connection, INSTRUCTIONS),
        row("instructions per join", |figures| figures.join, INSTRUCTIONS),
        row("instructions per publish", |figures| figures.publish, INSTRUCTIONS),
        row("instructions per delivery", |figures| figures.delivery, OF_DELIVERY),
    ]
}

/// What to do about it.
fn remedy(expected: &Figures, got: &Figures) -> String {
    let remedy = "target/debug/hallway-guards sites says where a session's bytes are allocated; for instructions compare \
        callgrind_annotate target/debug/guards/*.callgrind of before and after the change. A change that is meant, or is for \
        the better: target/debug/hallway-guards check --write";
    if expected.compiler == got.compiler {
        return remedy.to_owned();
    }
    // Another compiler makes other instructions of the same code.
    format!("{remedy}\nThe figures are of {}, and this is {}.", expected.compiler, got.compiler)
}

fn compiler() -> Outcome<String> {
    let said = Command::new("rustc").arg("--version").output()?;
    Ok(String::from_utf8(said.stdout)?.trim().to_owned())
}

impl Compared {
    fn is_off(&self) -> bool {
        self.got.abs_diff(self.expected) * 100 > self.expected * self.tolerance
    }

    fn describe(&self) -> String {
        let Self { what, expected, got, tolerance } = self;
        let side = if self.is_off() { "beyond" } else { "within" };
        format!("   {what}: {got}; {expected} expected, {side} {tolerance} %")
    }
}
