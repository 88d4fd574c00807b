//! The lines of README.md that use a recipe, run as they stand.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use super::app::{copy, installed};
use super::repository;
use crate::harness::node::Node;
use crate::harness::{eventually, token};

/// The block of a language below `## In an app`, with the address of a test.
fn lines(language: &str, url: &str) -> String {
    let readme = fs::read_to_string(repository().join("README.md")).expect("README.md");
    let (_, section) = readme.split_once("\n## In an app\n").expect("the section");
    let (_, block) = section.split_once(&format!("\n```{language}\n")).expect("the block");
    let (block, _) = block.split_once("```").expect("its end");
    block.replace("https://api.example.com", url)
}

struct App(Child);

impl App {
    fn run(mut command: Command, script: &Path) -> Self {
        command.arg(script).env("TOKEN", token::user("u1")).stdout(Stdio::piped());
        Self(command.spawn().expect("./check installs what it needs"))
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn javascript(folder: &Path, lines: &str) -> App {
    let given = "import { Realtime } from './realtime.mjs';\n\
                 const readToken = () => process.env.TOKEN, reload = () => {}, print = console.log;\n";
    let script = folder.join("readme.mjs");
    fs::write(&script, format!("{given}{lines}")).expect("a file");
    symlink(installed("tests/e2e/node_modules"), folder.join("node_modules")).expect("a link");
    App::run(Command::new("node"), &script)
}

fn python(folder: &Path, lines: &str) -> App {
    let body: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    let script = folder.join("readme.py");
    let text = format!(
        "import asyncio, functools, os\nfrom realtime import Realtime\nprint = functools.partial(print, flush=True)\n\
         read_token = lambda: os.environ['TOKEN']\nreload = print\n\
         async def main():\n{body}    await asyncio.Event().wait()\nasyncio.run(main())\n"
    );
    fs::write(&script, text).expect("a file");
    App::run(Command::new(installed("tests/e2e/.venv/bin/python")), &script)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lines_of_the_readme_hear_of_an_order() {
    let node = Node::embedded().await;
    let url = format!("http://{}", node.main());
    let folders = [(); 3].map(|()| tempfile::tempdir().expect("a folder"));
    copy("docs/clients/realtime.mjs", &folders[0]);
    copy("docs/clients/realtime.py", &folders[1]);
    copy("docs/clients/realtime.dart", &folders[2]);
    copy("tests/recipes/dart203.mjs", &folders[2]);
    fs::rename(copy("tests/recipes/dart.mjs", &folders[2]), folders[2].path().join("realtime.mjs")).expect("a file");
    let dart =
        lines("dart", &url).replace("final ", "const ").replace("onGap: (room) => reload(room)", "{ onGap: reload }");
    let apps = [
        javascript(folders[0].path(), &lines("js", &url)),
        python(folders[1].path(), &lines("python", &url)),
        javascript(folders[2].path(), &dart),
    ];
    eventually("all are in the room", || async { (node.room_size("order:ord_123").await == 3).then_some(()) }).await;
    let event = json!({"room": "order:ord_123", "type": "order.status_changed", "payload": {"status": "ready"}});
    assert_eq!(node.post("/v1/publish", event.to_string()).await.0, 200);
    for mut app in apps {
        let mut line = String::new();
        BufReader::new(app.0.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        assert_eq!(line, "ready\n");
    }
}
