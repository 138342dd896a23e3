//! Checks the documents against the code: the dependencies between crates, every name of the protocol, the length of files,
//! and the targets of links.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use protocol::{ClientMessage, Code, Decoded, limits::LIMITS};
use serde_json::Value;

/// The most lines of a file before its tests.
const LINES: usize = 500;

type Names = BTreeSet<String>;

/// The dependencies of a crate: workspace crates and external crates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Edges {
    ours: Names,
    ours_in_tests: Names,
    others: Names,
}

#[test]
fn dependencies_match_table() -> Result<()> {
    let crates = crates(&metadata()?)?;
    let problems = problems(&crates, &read("ARCHITECTURE.md")?)?;
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}

#[test]
fn wrong_dependencies_are_reported() -> Result<()> {
    let crates = crates(&metadata()?)?;
    let document = read("ARCHITECTURE.md")?;
    let with = |change: &dyn Fn(&mut BTreeMap<String, Edges>)| -> Result<String> {
        let mut changed = crates.clone();
        change(&mut changed);
        Ok(problems(&changed, &document)?.join("\n"))
    };
    let add = |from: &'static str, to: &'static str| {
        with(&move |crates| {
            let edges = crates.entry(from.to_owned()).or_default();
            edges.ours.insert(to.to_owned());
        })
    };
    for (from, to) in [
        ("protocol", "service"),
        ("service", "store"),
        ("store", "gateway"),
        ("local-gateway", "protocol"),
        ("connect", "gateway"),
        ("signing", "gateway"),
        ("message", "testkit"),
    ] {
        let found = add(from, to)?;
        ensure!(
            found.contains(&format!(
                "`{from}` depends on `{to}`, which is not in the table"
            )),
            "{found}"
        );
        ensure!(
            found.contains(&format!("`{from}` may never depend on `{to}`")),
            "{found}"
        );
    }
    let found = with(&|crates| {
        let protocol = crates.entry("protocol".to_owned()).or_default();
        protocol.others.insert("tokio".to_owned());
    })?;
    ensure!(found.contains("`protocol` may not use `tokio`"), "{found}");
    let found = with(&|crates| {
        crates.entry("store".to_owned()).or_default().ours.clear();
    })?;
    ensure!(
        found.contains("`store` does not depend on `protocol`"),
        "{found}"
    );
    let found = with(&|crates| {
        crates.insert("helpers".to_owned(), Edges::default());
    })?;
    ensure!(found.contains("`helpers` is not in the table"), "{found}");
    Ok(())
}

#[test]
fn protocol_document_lists_every_message() -> Result<()> {
    let document = read("docs/protocol.md")?;
    for name in ClientMessage::TYPES {
        let heading = format!("\n### `{name}`");
        let (_, section) = document
            .split_once(&heading)
            .with_context(|| format!("docs/protocol.md has no section `{name}`"))?;
        let section = section.split("\n#").next().unwrap_or_default();
        let example = sent(section).find(|text| match protocol::decode(text) {
            Decoded::Message { message, .. } => message.message_type() == *name,
            _ => false,
        });
        ensure!(
            example.is_some(),
            "the section `{name}` has no `→` line with such a message"
        );
    }
    for text in document.lines().filter_map(|line| line.strip_prefix("← ")) {
        let message: Value = serde_json::from_str(text).with_context(|| text.to_owned())?;
        ensure!(
            message.get("type").is_some_and(Value::is_string),
            "not a server message: {text}"
        );
    }
    Ok(())
}

#[test]
fn protocol_document_lists_codes_and_limits() -> Result<()> {
    let document = read("docs/protocol.md")?;
    for code in Code::ALL {
        let name = serde_json::to_value(code)?;
        let name = name.as_str().context("a code is a string")?;
        ensure!(
            document.contains(&format!("\n| `{name}` |")),
            "docs/protocol.md has no row for `{name}`"
        );
    }
    let limits = serde_json::to_value(LIMITS)?;
    for (name, value) in limits.as_object().context("the limits are an object")? {
        let row = format!("\n| `{name}` | {value} |");
        ensure!(
            document.contains(&row),
            "docs/protocol.md has no row beginning with{row}"
        );
    }
    Ok(())
}

#[test]
fn protocol_document_lists_close_codes() -> Result<()> {
    let document = read("docs/protocol.md")?;
    for close in sockjs::codes::ALL {
        let row = format!("\n| {} | ", close.code);
        let reason = format!("`{}`", close.reason);
        let mut rows = document.split(&row).skip(1);
        ensure!(
            rows.any(|it| it.lines().next().is_some_and(|it| it.contains(&reason))),
            "docs/protocol.md has no row for {close:?}"
        );
    }
    Ok(())
}

#[test]
fn no_file_is_too_long() -> Result<()> {
    let mut files = Vec::new();
    for folder in ["functions", "shared", "infra"] {
        sources(&root().join(folder), &mut files)?;
    }
    ensure!(files.len() > 100, "only {} files were found", files.len());
    let mut long = Vec::new();
    for file in files {
        let lines = lines_without_tests(&fs::read_to_string(&file)?);
        if lines > LINES {
            long.push(format!(
                "{} has {lines} lines before its tests",
                file.display()
            ));
        }
    }
    ensure!(long.is_empty(), "{}", long.join("\n"));
    Ok(())
}

#[test]
fn invariants_name_existing_tests() -> Result<()> {
    let mut code = String::new();
    let mut folders = vec![
        root().join("tests/tests"),
        root().join("tests/simulation"),
        root().join("shared/protocol/src"),
    ];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                code.push_str(&fs::read_to_string(path)?);
            }
        }
    }
    let document = read("docs/invariants.md")?;
    let mut named = 0;
    for row in document.lines().filter(|it| it.starts_with("| ")) {
        for name in row
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|it| it.matches('_').count() > 1)
        {
            named += 1;
            ensure!(
                code.contains(&format!("fn {name}(")),
                "there is no test {name}"
            );
        }
    }
    ensure!(named > 40, "only {named} tests are named");
    Ok(())
}

#[test]
fn document_links_resolve() -> Result<()> {
    let mut documents = vec![
        root().join("README.md"),
        root().join("ARCHITECTURE.md"),
        root().join("CONTRIBUTING.md"),
    ];
    for entry in fs::read_dir(root().join("docs"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "md") {
            documents.push(path);
        }
    }
    ensure!(documents.len() > 10, "only {} documents", documents.len());
    let mut followed = 0;
    for document in documents {
        let text = fs::read_to_string(&document)?;
        let folder = document.parent().context("a document has no folder")?;
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap_or_default();
            if link.contains("://") {
                continue;
            }
            let (target, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if target.is_empty() {
                document.clone()
            } else {
                folder.join(target)
            };
            let dangling = format!(
                "{} links to {link}, which does not exist",
                document.display()
            );
            ensure!(target.exists(), "{dangling}");
            if !anchor.is_empty() {
                let there = fs::read_to_string(&target)?;
                ensure!(anchors(&there).contains(anchor), "{dangling}");
            }
            followed += 1;
        }
    }
    ensure!(followed > 50, "only {followed} links were followed");
    Ok(())
}

#[test]
fn anchors_match_github() {
    let document = "# The `$connect`: what, and why\n```sh\n# no heading\n```\n## Limits\n#no heading\n### Limits\n";
    let expected = ["the-connect-what-and-why", "limits", "limits-1"];
    assert_eq!(anchors(document), Names::from(expected.map(str::to_owned)));
}

/// Returns the anchors of a document's headings: lower case, no punctuation, a hyphen for each space. Repeated anchors get a
/// number at the end.
fn anchors(document: &str) -> Names {
    let mut anchors = Names::new();
    let mut is_code = false;
    for line in document.lines() {
        is_code ^= line.trim_start().starts_with("```");
        let heading = line.trim_start_matches('#');
        if is_code || heading == line || !heading.starts_with(' ') {
            continue;
        }
        let slug: String = heading
            .trim()
            .to_lowercase()
            .chars()
            .filter(|it| it.is_alphanumeric() || matches!(*it, ' ' | '-' | '_'))
            .map(|it| if it == ' ' { '-' } else { it })
            .collect();
        let mut anchor = slug.clone();
        let mut earlier = 0;
        while !anchors.insert(anchor.clone()) {
            earlier += 1;
            anchor = format!("{slug}-{earlier}");
        }
    }
    anchors
}

/// Returns all problems with the dependencies of `crates`.
fn problems(crates: &BTreeMap<String, Edges>, document: &str) -> Result<Vec<String>> {
    let table = table(document)?;
    let none = Edges::default();
    let mut problems = Vec::new();
    for name in crates.keys().filter(|name| !table.contains_key(*name)) {
        problems.push(format!("`{name}` is not in the table of ARCHITECTURE.md"));
    }
    for name in table.keys().filter(|name| !crates.contains_key(*name)) {
        problems.push(format!("`{name}` is in the table, but is no crate"));
    }
    for (name, edges) in crates {
        let listed = table.get(name).unwrap_or(&none);
        for (is, should, how) in [
            (&edges.ours, &listed.ours, ""),
            (
                &edges.ours_in_tests,
                &listed.ours_in_tests,
                " for its tests",
            ),
        ] {
            for to in is.difference(should) {
                problems.push(format!(
                    "`{name}` depends on `{to}`, which is not in the table{how}"
                ));
            }
            for to in should.difference(is) {
                problems.push(format!(
                    "`{name}` does not depend on `{to}`{how}, as the table says"
                ));
            }
        }
        for to in edges.ours.iter().filter(|to| is_never(name, to)) {
            problems.push(format!(
                "`{name}` may never depend on `{to}`, whatever the table says"
            ));
        }
    }
    for name in ["protocol", "sockjs"] {
        let allowed = allowed(document, name)?;
        let edges = crates.get(name).unwrap_or(&none);
        for other in edges.others.difference(&allowed) {
            problems.push(format!("`{name}` may not use `{other}`"));
        }
    }
    Ok(problems)
}

/// Returns true if no table may allow this dependency. Dependencies point inward, adapters do not depend on each other, and
/// functions that cannot post do not depend on `gateway`.
fn is_never(from: &str, to: &str) -> bool {
    /// The rings of crates from the inside out.
    const RINGS: [&[&str]; 4] = [
        &["protocol", "trust", "sockjs", "local-gateway"],
        &["service", "signing"],
        &["store", "gateway", "jwt", "lambda", "testkit"],
        &["authorizer", "connect", "disconnect"],
    ];
    let ring = |name: &str| RINGS.iter().position(|ring| ring.contains(&name));
    // Any other crate is a function without restrictions.
    let outermost = RINGS.len();
    let (outer, inner) = (
        ring(from).unwrap_or(outermost),
        ring(to).unwrap_or(outermost),
    );
    let cannot_post = outer == RINGS.len() - 1;
    // A server that only tests deploy may use the transports of the function `sockjs-http`.
    let is_test = matches!(from, "tests" | "sockjs-conformance");
    !is_test && (outer <= inner || to == "testkit" || (cannot_post && to == "gateway"))
}

/// Parses the table between the document's two marks.
fn table(document: &str) -> Result<BTreeMap<String, Edges>> {
    let mut table = BTreeMap::new();
    for row in marked(document)?.lines().filter(|it| it.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        let [name, ours, in_tests] = cells.as_slice() else {
            bail!("a row of the table does not have three cells: {row}");
        };
        let name = names(name).pop_first().context("a row has no name")?;
        let edges = Edges {
            ours: names(ours),
            ours_in_tests: names(in_tests),
            others: Names::new(),
        };
        ensure!(
            table.insert(name, edges).is_none(),
            "two rows for one crate: {row}"
        );
    }
    Ok(table)
}

/// Returns the external crates that crate `name` may use.
fn allowed(document: &str, name: &str) -> Result<Names> {
    let mark = format!("`{name}` may use of other people's crates:");
    let line = marked(document)?
        .lines()
        .find_map(|line| line.strip_prefix(&mark))
        .with_context(|| format!("ARCHITECTURE.md does not say what `{name}` may use"))?;
    Ok(names(line))
}

fn marked(document: &str) -> Result<&str> {
    let (_, rest) = document
        .split_once("<!-- dependencies:")
        .context("ARCHITECTURE.md has no table of dependencies")?;
    let (marked, _) = rest
        .split_once("<!-- end of dependencies -->")
        .context("the table of dependencies has no end")?;
    Ok(marked)
}

/// Returns the words in backticks.
fn names(text: &str) -> Names {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

fn metadata() -> Result<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Returns the crates of the workspace with their dependencies. Ignores external crates that only tests use.
fn crates(metadata: &Value) -> Result<BTreeMap<String, Edges>> {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let packages = metadata.get("packages").and_then(Value::as_array);
    let packages = packages.context("cargo metadata lists no packages")?;
    let mut crates = BTreeMap::new();
    for package in packages {
        let mut edges = Edges::default();
        let dependencies = package.get("dependencies").and_then(Value::as_array);
        for dependency in dependencies.context("a package has no list of dependencies")? {
            let name = text(dependency, "name").context("a dependency has no name")?;
            let is_ours = text(dependency, "path").is_some();
            let only_in_tests = text(dependency, "kind").as_deref() == Some("dev");
            match (is_ours, only_in_tests) {
                (true, false) => edges.ours.insert(name),
                (true, true) => edges.ours_in_tests.insert(name),
                (false, false) => edges.others.insert(name),
                (false, true) => false,
            };
        }
        crates.insert(
            text(package, "name").context("a package has no name")?,
            edges,
        );
    }
    Ok(crates)
}

/// Returns the client messages of a section's examples.
fn sent(section: &str) -> impl Iterator<Item = &str> {
    section.lines().filter_map(|line| line.strip_prefix("→ "))
}

/// Collects every source file below `folder` that is not a test.
fn sources(folder: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if name != "tests" && name != "target" {
                sources(&path, into)?;
            }
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            into.push(path);
        }
    }
    Ok(())
}

/// Counts the lines before the tests, which are at the end of a file.
fn lines_without_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| {
        matches!(pair, [mark, module] if *mark == "#[cfg(test)]" && module.ends_with("mod tests {"))
    });
    tests.unwrap_or(lines.len())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| format!("cannot read {path}"))
}
