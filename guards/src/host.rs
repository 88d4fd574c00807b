//! The host: a gateway in this process, whose heap is counted. It answers the lines that it reads on its standard input.

use std::io::{BufRead, Write};
use std::path::Path;
use std::process::ExitCode;
use std::thread;

use clap::Parser;
use hallway::cli::Cli;

/// Asks for the bytes that are held.
pub(crate) const HELD: &str = "held";
/// Asks for the profile; the process ends behind it.
pub(crate) const PROFILE: &str = "profile";

/// Frames of a call site that are kept: enough to lead from the allocator to our own code.
const FRAMES: usize = 40;

/// Serves as `hallway serve` does.
pub(crate) fn run(profile: &Path, config: &Path) -> ExitCode {
    let profiler = dhat::Profiler::builder().file_name(profile).trim_backtraces(Some(FRAMES)).build();
    thread::spawn(move || answer_questions(profiler));
    Cli::parse_from(["hallway".as_ref(), "serve".as_ref(), "--config".as_ref(), config.as_os_str()]).run()
}

/// Answers until the input ends, and then ends the process with it.
fn answer_questions(profiler: dhat::Profiler) {
    let mut profiler = Some(profiler);
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        // Written when it is dropped, and while the sessions are there: they are what it is to show.
        if line == PROFILE {
            drop(profiler.take());
            break;
        }
        print_line(&dhat::HeapStats::get().curr_bytes.to_string());
    }
    std::process::exit(0);
}

#[expect(clippy::print_stdout, reason = "the answers go to the process that asks")]
fn print_line(line: &str) {
    println!("{line}");
    std::io::stdout().flush().ok();
}
