//! Checks the shape of the code: no circles of imports, small types, layers of the service, documented items, short test names.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

/// The most methods of one type in `shared/service`.
const METHODS: usize = 45;
/// The most words of a test's name.
const WORDS: usize = 8;
/// The most words of the median test name.
const MEDIAN_WORDS: usize = 6;

/// The layers of `shared/service`, from the top down. A module uses modules of its own layer or below.
const LAYERS: &[&[&str]] = &[
    &["backend", "worker"],
    &["connections", "messages", "presence", "tokens"],
    &["decision"],
    &["delivery"],
    &["closer"],
    &["log"],
    &["pages", "parts"],
    &["ports", "retry", "timing"],
];
/// The one module of an upper layer that lower layers use: loading is what a decision begins with.
const LOADER: &str = "messages::load";

#[test]
fn no_crate_has_circular_imports() -> Result<()> {
    let mut circles = Vec::new();
    for folder in crate_folders()? {
        let imports = imports(&folder)?;
        for (module, used) in &imports {
            for other in used {
                if reaches(&imports, other, module) {
                    circles.push(format!("{}: {module} -> {other}", folder.display()));
                }
            }
        }
    }
    ensure!(circles.is_empty(), "circles:\n{}", circles.join("\n"));
    Ok(())
}

#[test]
fn circular_import_is_found() {
    let to = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let imports = BTreeMap::from([
        ("a".to_owned(), to(&["b"])),
        ("b".to_owned(), to(&["c"])),
        ("c".to_owned(), to(&["a"])),
        ("d".to_owned(), to(&["a"])),
    ]);
    assert!(reaches(&imports, "b", "a"));
    assert!(!reaches(&imports, "a", "d"));
}

#[test]
fn service_modules_use_lower_layers() -> Result<()> {
    let layer = |module: &str| {
        let top = module.split("::").next().unwrap_or(module);
        LAYERS.iter().position(|layer| layer.contains(&top))
    };
    let folder = root().join("shared/service/src");
    let mut wrong = Vec::new();
    for (module, used) in imports(&folder)? {
        let Some(own) = layer(&module) else {
            continue;
        };
        for other in used.iter().filter(|other| *other != LOADER) {
            if layer(other).is_some_and(|below| below < own) {
                wrong.push(format!("{module} -> {other}"));
            }
        }
    }
    ensure!(
        wrong.is_empty(),
        "imports that run up:\n{}",
        wrong.join("\n")
    );
    Ok(())
}

#[test]
fn service_types_stay_small() -> Result<()> {
    let mut methods: BTreeMap<String, usize> = BTreeMap::new();
    for path in rust_files(&root().join("shared/service/src"))? {
        let text = fs::read_to_string(&path)?;
        let mut current = None;
        for line in without_tests(&text).lines() {
            if let Some(rest) = line.strip_prefix("impl") {
                let target = rest.split(" for ").last().unwrap_or(rest);
                let target = target
                    .split('>')
                    .nth(usize::from(rest.starts_with('<')))
                    .unwrap_or(target);
                current = target
                    .split(|c: char| !c.is_alphanumeric())
                    .find(|word| word.chars().next().is_some_and(char::is_uppercase))
                    .map(str::to_owned);
            } else if line.contains(" Service<S, G, W, E>") && !line.contains("fn ") {
                current = Some("Service".to_owned());
            }
            let is_method =
                line.starts_with("    ") && !line.starts_with("     ") && line.contains("fn ");
            if let (true, Some(name)) = (is_method, &current) {
                *methods.entry(name.clone()).or_default() += 1;
            }
        }
    }
    let largest = methods.iter().max_by_key(|(_, count)| **count);
    let (name, count) = largest.context("there are types with methods")?;
    ensure!(
        methods.contains_key("Sender"),
        "methods are counted by type: {methods:?}"
    );
    ensure!(
        *count <= METHODS,
        "`{name}` has {count} methods, {METHODS} at most"
    );
    Ok(())
}

#[test]
fn architecture_names_every_service_file() -> Result<()> {
    let document = fs::read_to_string(root().join("ARCHITECTURE.md"))?;
    let folder = root().join("shared/service/src");
    let mut missing = Vec::new();
    for path in rust_files(&folder)? {
        let relative = path.strip_prefix(&folder)?.to_string_lossy().into_owned();
        let has_folder = path.with_extension("").is_dir();
        if relative != "lib.rs" && !has_folder && !document.contains(&format!("`{relative}`")) {
            missing.push(relative);
        }
    }
    ensure!(
        missing.is_empty(),
        "ARCHITECTURE.md does not name {missing:?}"
    );
    Ok(())
}

#[test]
fn public_items_are_documented() -> Result<()> {
    let mut bare = Vec::new();
    for folder in crate_folders()? {
        for path in rust_files(&folder)? {
            let text = fs::read_to_string(&path)?;
            let lines: Vec<&str> = without_tests(&text).lines().collect();
            let mut in_trait_impl = false;
            for (index, line) in lines.iter().enumerate() {
                if !line.starts_with(' ') {
                    in_trait_impl = line.starts_with("impl") && line.contains(" for ");
                }
                let item = line.trim_start();
                let is_item = [
                    "fn", "async fn", "const fn", "struct", "enum", "trait", "type", "const",
                    "static",
                ]
                .iter()
                .any(|kind| item.starts_with(&format!("pub {kind} ")));
                if is_item && !in_trait_impl && !has_doc(&lines, index) {
                    bare.push(format!("{}:{}: {item}", path.display(), index + 1));
                }
            }
        }
    }
    ensure!(
        bare.is_empty(),
        "without documentation:\n{}",
        bare.join("\n")
    );
    Ok(())
}

#[test]
fn test_names_are_short() -> Result<()> {
    let mut words = Vec::new();
    let mut long = Vec::new();
    for path in rust_files(&root())? {
        let text = fs::read_to_string(&path)?;
        let mut is_test = false;
        for line in text.lines() {
            let line = line.trim_start();
            if line.starts_with("#[") {
                is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                continue;
            }
            let name = line
                .strip_prefix("async ")
                .unwrap_or(line)
                .strip_prefix("fn ")
                .and_then(|rest| rest.split(['(', '<']).next());
            if let (true, Some(name)) = (is_test, name) {
                let count = name.split('_').count();
                words.push(count);
                if count > WORDS {
                    long.push(format!("{}: {name}", path.display()));
                }
            }
            is_test = false;
        }
    }
    ensure!(
        long.is_empty(),
        "more than {WORDS} words:\n{}",
        long.join("\n")
    );
    words.sort_unstable();
    let median = words.get(words.len() / 2).context("there are tests")?;
    ensure!(
        *median <= MEDIAN_WORDS,
        "the median test name has {median} words"
    );
    Ok(())
}

/// Returns the modules of a crate, each with the modules that it names by a `use`.
fn imports(folder: &Path) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let files = rust_files(folder)?;
    let modules: BTreeSet<String> = files.iter().map(|path| module_of(folder, path)).collect();
    let mut imports = BTreeMap::new();
    for path in &files {
        let text = fs::read_to_string(path)?;
        let own = module_of(folder, path);
        let mut used = BTreeSet::new();
        for statement in uses(without_tests(&text)) {
            for import in expanded(&statement) {
                if let Some(target) = absolute(&own, &import) {
                    // The longest prefix that is a module.
                    let segments: Vec<&str> = target.split("::").collect();
                    let module = (1..=segments.len())
                        .rev()
                        .map(|count| segments.get(..count).unwrap_or_default().join("::"))
                        .find(|name| modules.contains(name));
                    if let Some(module) = module.filter(|module| {
                        // A parent declares its children and may re-export them. That is no arrow back.
                        *module != own && !own.starts_with(&format!("{module}::"))
                    }) {
                        used.insert(module);
                    }
                }
            }
        }
        // What a module imports from its own children is the inside of one room.
        used.retain(|module| !module.starts_with(&format!("{own}::")));
        imports.insert(own, used);
    }
    Ok(imports)
}

fn reaches(imports: &BTreeMap<String, BTreeSet<String>>, from: &str, to: &str) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![from.to_owned()];
    while let Some(module) = open.pop() {
        if module == to {
            return true;
        }
        if seen.insert(module.clone()) {
            open.extend(imports.get(&module).into_iter().flatten().cloned());
        }
    }
    false
}

/// Returns the `use` statements of a file, without `use` and the semicolon, on one line each.
fn uses(text: &str) -> Vec<String> {
    let mut statements = Vec::new();
    let mut current: Option<String> = None;
    for line in text.lines() {
        let line = line.trim();
        let begun = line
            .strip_prefix("pub use ")
            .or_else(|| line.strip_prefix("pub(crate) use "))
            .or_else(|| line.strip_prefix("pub(super) use "))
            .or_else(|| line.strip_prefix("use "));
        if let Some(rest) = begun {
            current = Some(rest.to_owned());
        } else if let Some(text) = &mut current {
            text.push_str(line);
        }
        if line.ends_with(';')
            && let Some(text) = current.take()
        {
            statements.push(text.trim_end_matches(';').replace(' ', ""));
        }
    }
    statements
}

/// Returns the paths of one `use` statement: `a::{b,c::{d}}` is `a::b` and `a::c::d`.
fn expanded(statement: &str) -> Vec<String> {
    let Some((prefix, rest)) = statement.split_once('{') else {
        return vec![statement.to_owned()];
    };
    let inner = rest.strip_suffix('}').unwrap_or(rest);
    let (mut paths, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (index, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                let part = inner.get(start..index).unwrap_or_default();
                if !part.is_empty() {
                    paths.extend(expanded(&format!("{prefix}{part}")));
                }
                start = index + 1;
            }
            _ => {}
        }
    }
    paths
}

/// Returns the path of an import from the crate's root, or `None` if it names another crate.
fn absolute(own: &str, import: &str) -> Option<String> {
    if let Some(rest) = import.strip_prefix("crate::") {
        return Some(rest.to_owned());
    }
    let mut base: Vec<&str> = own.split("::").collect();
    let mut rest = import;
    if let Some(inner) = rest.strip_prefix("self::") {
        rest = inner;
    } else if !rest.starts_with("super::") {
        return None;
    }
    while let Some(inner) = rest.strip_prefix("super::") {
        base.pop()?;
        rest = inner;
    }
    base.push(rest);
    Some(base.join("::"))
}

fn module_of(folder: &Path, path: &Path) -> String {
    let relative = path.strip_prefix(folder).unwrap_or(path).with_extension("");
    let mut names: Vec<String> = relative
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect();
    if names.last().is_some_and(|name| name == "mod") {
        names.pop();
    }
    names.join("::")
}

/// Returns true if the block of lines right above an item has a doc comment.
fn has_doc(lines: &[&str], index: usize) -> bool {
    lines
        .get(..index)
        .unwrap_or_default()
        .iter()
        .rev()
        .map(|line| line.trim())
        .take_while(|line| !line.is_empty() && !line.ends_with(['{', '}', ';']))
        .any(|line| line.starts_with("///") || line.starts_with("$(#[") || line.starts_with("$("))
}

fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]").next().unwrap_or(text)
}

/// The source folders of the workspace's crates.
fn crate_folders() -> Result<Vec<PathBuf>> {
    let mut folders = vec![root().join("infra/local/src")];
    for parent in ["shared", "functions"] {
        for entry in fs::read_dir(root().join(parent))? {
            folders.push(entry?.path().join("src"));
        }
    }
    folders.push(root().join("tests/testkit/src"));
    folders.push(root().join("tests/simulation/src"));
    Ok(folders)
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            if name != "target" && name != "node_modules" && !name.starts_with('.') {
                files.extend(rust_files(&path)?);
            }
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
