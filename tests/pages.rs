//! The commands of README.md and of every page under `docs/`, run as they stand: against a Redis and a gateway at the
//! addresses that the pages name, in a network of the test's own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::harness::eventually;
use crate::harness::network::{PART, again, ip, way_in};

/// Blocks that cannot be run here, by a part of them, each with its reason.
const LEFT_OUT: [(&str, &str); 2] = [
    ("cargo run --release -- serve --dev", "it is what `./check` is run by, and what starts the gateway below"),
    ("kubectl", "there is no cluster"),
];

/// What a command prints that failed and said so without an exit code.
const FAILURES: [&str; 5] = ["ERR ", "WRONGTYPE", "NOPERM", "(error)", "\"error\""];

/// A server that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A page with its blocks of one language, in their order.
struct Page {
    name: String,
    text: String,
}

impl Page {
    fn blocks(&self, language: &str) -> Vec<&str> {
        let fence = format!("\n```{language}\n");
        self.text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap_or_default()).collect()
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn pages() -> Vec<Page> {
    let of =
        |folder: &str| fs::read_dir(root().join(folder)).expect("a folder").map(|file| file.expect("a file").path());
    let mut files: Vec<PathBuf> = of("docs").chain(of("docs/clients")).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "md"));
    files.push(root().join("README.md"));
    files.sort();
    let page = |file: PathBuf| Page {
        name: file.strip_prefix(root()).expect("it is ours").display().to_string(),
        text: fs::read_to_string(&file).expect("a page"),
    };
    files.into_iter().map(page).collect()
}

/// A folder with `hallway` on its path, the packages that the pages name, and the configuration that a page shows.
fn workplace(page: &Page) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    symlink(root().join("tests/e2e/node_modules"), folder.path().join("node_modules")).expect("a link");
    symlink(env!("CARGO_BIN_EXE_hallway"), folder.path().join("hallway")).expect("a link");
    if let Some(shown) = page.blocks("toml").into_iter().find(|block| block.starts_with("# hallway.toml")) {
        fs::write(folder.path().join("hallway.toml"), shown).expect("a file");
    }
    folder
}

fn run(page: &Page, folder: &Path, block: &str) {
    let python = root().join("tests/e2e/.venv/bin");
    let path = std::env::var("PATH").expect("a PATH");
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", block]).current_dir(folder).env_remove(PART);
    bash.env("PATH", format!("{}:{}:{path}", folder.display(), python.display()));
    bash.env("HALLWAY_REDIS__URL", "redis://127.0.0.1:6379");
    let output = bash.output().expect("bash runs");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let failed = FAILURES.iter().any(|failure| said.contains(failure));
    assert!(output.status.success() && !failed, "{}:\n{block}\n-> {said}", page.name);
}

async fn serve() -> [Server; 2] {
    ip("link set lo up");
    let start =
        |command: &mut Command| Server(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"));
    let redis = start(Command::new("redis-server").args(["--port", "6379", "--save", ""]));
    let mut hallway = Command::new(env!("CARGO_BIN_EXE_hallway"));
    let hallway =
        start(hallway.args(["serve", "--dev"]).env("HALLWAY_REDIS__URL", "redis://127.0.0.1:6379").env_remove(PART));
    let http = crate::harness::http();
    eventually("the gateway is ready", || async {
        http.get("http://127.0.0.1:9090/readyz").send().await.ok()?.status().is_success().then_some(())
    })
    .await;
    [redis, hallway]
}

#[tokio::test]
async fn every_command_of_every_page_works() {
    if std::env::var(PART).is_err() {
        let mut inside = again(way_in(), "pages::every_command_of_every_page_works", "inside");
        let status = inside.stdin(Stdio::null()).status().expect("unshare was there a moment ago");
        assert!(status.success(), "see what the process in the other network said");
        return;
    }
    let _servers = serve().await;
    let mut ran = 0;
    for page in pages() {
        let folder = workplace(&page);
        for block in page.blocks("sh") {
            if !LEFT_OUT.iter().any(|(part, _)| block.contains(part)) {
                run(&page, folder.path(), block);
                ran += 1;
            }
        }
    }
    assert!(ran > 15, "the pages have commands: {ran}");
}

/// Every page but the two lists begins with a question and an example.
#[test]
fn a_page_has_the_question_of_its_reader_for_a_title_and_begins_with_an_example() {
    for page in pages().iter().filter(|page| page.name.starts_with("docs/") && !page.name.starts_with("docs/clients/"))
    {
        let mut lines = page.text.lines().filter(|line| !line.is_empty() && !line.starts_with("<!--"));
        let title = lines.next().unwrap_or_default();
        assert!(title.starts_with("# ") && title.ends_with('?'), "{}: {title}", page.name);
        let example = lines.take_while(|line| !line.starts_with("## ")).any(|line| line.starts_with("```"));
        assert!(example, "{} begins with no example", page.name);
    }
}

/// Links between pages lead somewhere.
#[test]
fn every_link_of_every_page_leads_to_a_file() {
    for page in pages() {
        let folder = root().join(&page.name).parent().expect("a folder").to_owned();
        let targets = page.text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        for target in targets.filter(|target| !target.contains("://") && !target.is_empty()) {
            assert!(folder.join(target).exists(), "{}: {target} is not there", page.name);
        }
    }
}
