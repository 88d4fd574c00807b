//! The language of comments and pages: a noun says who or what acts, where a pronoun leaves it open.

use std::fs;

use super::{nothing_wrong, read, root, sources};

/// Pronouns that stand for a noun the reader would need, and how often each may stand in doc comments at
/// most: lower it with each one that is mended.
const PRONOUNS: [(&str, usize); 9] = [
    ("whoever", 0),
    ("whomever", 0),
    ("somebody", 0),
    ("nobody", 0),
    ("everybody", 0),
    ("anybody", 0),
    ("someone", 0),
    ("everyone", 0),
    ("he who", 0),
];
/// How often a doc comment may have a `who` without a noun before it.
const BARE_WHO: usize = 0;

/// Verbs behind a `who` that stands for a noun. Those of a question (who may, who can) are left out.
const VERBS: [&str; 20] = [
    "is", "has", "asks", "holds", "wants", "comes", "reads", "sends", "does", "was", "are", "have", "hears", "takes",
    "gets", "joins", "leaves", "waits", "finds", "knows",
];

/// A paragraph, and where it begins.
struct Paragraph {
    place: String,
    text: String,
}

fn comments() -> Vec<Paragraph> {
    let mut found: Vec<Paragraph> = Vec::new();
    for source in [sources("src"), sources("rooms/src")].into_iter().flatten() {
        let mut inside = false;
        for (at, line) in source.lines.iter().enumerate() {
            let line = line.trim_start();
            let text = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")).map(str::trim);
            match text.filter(|text| !text.is_empty()) {
                Some(text) if inside => {
                    let last = found.last_mut().expect("a paragraph has begun");
                    last.text.extend([" ", text]);
                }
                Some(text) => found.push(Paragraph { place: format!("{}:{}", source.path, at + 1), text: text.into() }),
                None => {}
            }
            inside = text.is_some_and(|text| !text.is_empty());
        }
    }
    found
}

fn lines_of_pages() -> Vec<Paragraph> {
    let of =
        |folder: &str| fs::read_dir(root().join(folder)).expect("a folder").map(|file| file.expect("a file").path());
    let mut files: Vec<_> = of("docs").chain(of("docs/clients")).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "md"));
    let names = files.iter().map(|file| file.strip_prefix(root()).expect("it is ours").display().to_string());
    let mut found = Vec::new();
    for name in names.chain(["README.md".to_owned()]) {
        let lines = read(&name);
        let numbered = lines.lines().enumerate();
        found.extend(numbered.map(|(at, text)| Paragraph { place: format!("{name}:{}", at + 1), text: text.into() }));
    }
    found
}

/// How often a word or two stand in the text, as words of their own.
fn times(text: &str, phrase: &str) -> usize {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let apart = |at: usize| !text[..at].ends_with(part) && !text[at + phrase.len()..].starts_with(part);
    text.match_indices(phrase).filter(|(at, _)| apart(*at)).count()
}

/// `who` and a verb behind the end of a clause. At the beginning of a paragraph it may ask: who is in the room.
fn bare_who(text: &str) -> usize {
    let ends = [". ", ": ", "; ", "("];
    ends.iter().flat_map(|end| VERBS.map(|verb| times(text, &format!("{end}who {verb}")))).sum()
}

/// What is wrong where a word stands more often than its bound says: the sum, and where.
fn over(bound: usize, what: &str, found: &[Paragraph], count: impl Fn(&str) -> usize) -> Option<String> {
    let hits: Vec<_> = found.iter().map(|paragraph| (paragraph, count(&paragraph.text.to_lowercase()))).collect();
    let sum: usize = hits.iter().map(|(_, count)| count).sum();
    let places: Vec<_> = hits.iter().filter(|(_, count)| *count > 0).map(|(hit, _)| hit.place.as_str()).collect();
    let wrong =
        || format!("`{what}` stands {sum} times, at most {bound}; say with a noun who acts:\n{}", places.join("\n"));
    (sum > bound).then(wrong)
}

#[test]
fn doc_comments_name_who_acts() {
    let comments = comments();
    let pronouns = PRONOUNS.iter().filter_map(|(word, bound)| over(*bound, word, &comments, |text| times(text, word)));
    nothing_wrong(pronouns.chain(over(BARE_WHO, "who", &comments, bare_who)).collect());
}

#[test]
fn pages_name_who_acts() {
    let lines = lines_of_pages();
    let pronouns = PRONOUNS.iter().filter_map(|(word, _)| over(0, word, &lines, |text| times(text, word)));
    nothing_wrong(pronouns.chain(over(0, "who", &lines, bare_who)).collect());
}
