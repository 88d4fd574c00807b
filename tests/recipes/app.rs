//! An app that uses a recipe, as a process of its own: it says what it is told, a JSON map a line.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::Value;
use tempfile::TempDir;

use super::repository;
use crate::harness::eventually;

pub(super) struct App {
    pub(super) name: &'static str,
    process: Child,
    orders: Option<ChildStdin>,
    lines: Arc<Mutex<Vec<Value>>>,
    reader: Option<JoinHandle<()>>,
    _folder: TempDir,
}

impl App {
    /// Beside a copy of the recipe, because modules are looked for from where the file lies.
    pub(super) fn javascript(config: &Value) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        copy("docs/clients/realtime.mjs", &folder);
        Self::node("javascript", config, folder)
    }

    fn node(name: &'static str, config: &Value, folder: TempDir) -> Self {
        let driver = copy("tests/recipes/driver.mjs", &folder);
        symlink(installed("tests/e2e/node_modules"), folder.path().join("node_modules")).expect("a link");
        let mut command = Command::new("node");
        command.arg(driver);
        Self::launch(name, command, config, folder)
    }

    /// Turned into JavaScript line by line, on what is known of the stock client: there is no Dart here.
    pub(super) fn dart(config: &Value) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        copy("docs/clients/realtime.dart", &folder);
        copy("tests/recipes/dart203.mjs", &folder);
        fs::rename(copy("tests/recipes/dart.mjs", &folder), folder.path().join("realtime.mjs")).expect("a file");
        Self::node("dart", config, folder)
    }

    pub(super) fn python(config: &Value) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        copy("docs/clients/realtime.py", &folder);
        let driver = copy("tests/recipes/driver.py", &folder);
        let mut command = Command::new(installed("tests/e2e/.venv/bin/python"));
        command.arg(driver);
        Self::launch("python", command, config, folder)
    }

    fn launch(name: &'static str, mut command: Command, config: &Value, folder: TempDir) -> Self {
        command.arg(config.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("./check installs what it needs");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (said, sink) = (process.stdout.take().expect("piped"), lines.clone());
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(said).lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}"));
                sink.lock().expect("no panic holds it").push(line);
            }
        });
        let orders = process.stdin.take();
        Self { name, process, orders, lines, reader: Some(reader), _folder: folder }
    }

    pub(super) fn act(&mut self, act: &Value) {
        let orders = self.orders.as_mut().expect("it runs");
        writeln!(orders, "{act}").expect("it listens");
    }

    /// Waits for a line.
    pub(super) async fn says(&self, line: &Value) {
        let what = format!("{} says {line}", self.name);
        eventually(&what, || async { self.said().contains(line).then_some(()) }).await;
    }

    /// Waits for a line with this key, and gives its value.
    pub(super) async fn first(&self, key: &str) -> Value {
        eventually(&format!("{} says {key}", self.name), || async { self.all(key).first().cloned() }).await
    }

    /// What it said under a key, so far.
    pub(super) fn all(&self, key: &str) -> Vec<Value> {
        self.said().iter().filter_map(|line| line.get(key).cloned()).collect()
    }

    /// The ids of the events that its handlers had, in their order.
    pub(super) fn events(&self) -> Vec<String> {
        self.all("event").iter().map(|id| id.as_str().expect("an id").to_owned()).collect()
    }

    fn said(&self) -> Vec<Value> {
        self.lines.lock().expect("no panic holds it").clone()
    }

    /// Lets it end by itself, and waits for its last words.
    pub(super) fn ended(mut self) -> Self {
        self.orders = None;
        let status = self.process.wait().expect("it ends");
        assert!(status.success(), "{}: {status}", self.name);
        self.reader.take().expect("once").join().expect("it said JSON");
        self
    }
}

impl Drop for App {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self.said();
            let last = format!("{} said last: {:#?}\n", self.name, &said[said.len().saturating_sub(30)..]);
            std::io::stderr().write_all(last.as_bytes()).ok();
        }
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

pub(super) fn installed(path: &str) -> PathBuf {
    let path = repository().join(path);
    assert!(path.exists(), "{} is missing: ./check installs it", path.display());
    path
}

pub(super) fn copy(path: &str, to: &TempDir) -> PathBuf {
    let from = repository().join(path);
    let to = to.path().join(from.file_name().expect("a file"));
    fs::copy(&from, &to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    to
}
