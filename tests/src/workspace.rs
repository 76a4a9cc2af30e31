//! The workspace holds to its own rules: which package may use which, what a folder looks like, what may come in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, TargetKind};

/// Which package may use which of ours. A further edge is a decision about the design, not a detail of a change.
const EDGES: &[(&str, &[&str])] = &[
    ("hoop-schema", &[]),
    ("hoop-sinks", &["hoop-schema"]),
    ("hoop-proxy", &["hoop-schema", "hoop-sinks"]),
    ("hoop-recorder", &["hoop-schema", "hoop-sinks"]),
    ("hoop-replayer", &["hoop-schema", "hoop-sinks"]),
    (
        "hoop",
        &[
            "hoop-schema",
            "hoop-sinks",
            "hoop-proxy",
            "hoop-recorder",
            "hoop-replayer",
        ],
    ),
    (
        "hoop-tests",
        &[
            "hoop",
            "hoop-schema",
            "hoop-sinks",
            "hoop-proxy",
            "hoop-recorder",
            "hoop-replayer",
        ],
    ),
];

/// Further edges that only tests may have.
const TEST_EDGES: &[(&str, &str)] = &[
    // The replayer's tests read, and damage, files that the real writer wrote.
    ("hoop-replayer", "hoop-recorder"),
];

/// The longest source file without its tests that needs no reason, in lines.
const FILE_LINES_MAX: usize = 600;

/// Files that may be longer, and why.
const LONG_FILES: &[(&str, &str)] = &[];

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    root.expect("the package lies in the workspace").to_owned()
}

fn metadata(dependencies: bool) -> Metadata {
    let mut command = MetadataCommand::new();
    command
        .current_dir(root())
        .other_options(vec!["--locked".to_owned()]);
    if !dependencies {
        command.no_deps();
    }
    command.exec().expect("cargo reads the workspace")
}

/// All files of the workspace that end in `ending`, apart from those that are built.
fn files(ending: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                walk(&path, ending, found);
            } else if path.is_file() && name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), ending, &mut found);
    assert!(!found.is_empty());
    found
}

fn relative(path: &Path) -> String {
    let path = path
        .strip_prefix(root())
        .expect("files are found below the root");
    path.to_string_lossy().replace('\\', "/")
}

/// Edges that `EDGES` and `TEST_EDGES` do not allow.
fn edges_too_many(packages: &[Package]) -> Vec<String> {
    let edges: BTreeMap<_, _> = EDGES.iter().copied().collect();
    let mut wrong = Vec::new();
    for package in packages {
        let Some(allowed) = edges.get(package.name.as_str()) else {
            wrong.push(format!(
                "{} is a package that the design does not have",
                package.name
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            let own = edges.contains_key(name) && name != package.name.as_str();
            let in_tests = dependency.kind == DependencyKind::Development
                && TEST_EDGES.contains(&(package.name.as_str(), name));
            if own && !allowed.contains(&name) && !in_tests {
                wrong.push(format!("{} -> {name}", package.name));
            }
        }
    }
    wrong
}

#[test]
fn packages_use_each_other_as_designed() {
    let metadata = metadata(false);
    assert_eq!(metadata.packages.len(), EDGES.len());
    assert_eq!(edges_too_many(&metadata.packages), Vec::<String>::new());
}

#[test]
fn an_edge_too_many_is_found() {
    let mut packages = metadata(false).packages;
    let to_proxy = |package: &Package| {
        let proxy = package.dependencies.iter().find(|d| d.name == "hoop-proxy");
        proxy.unwrap().clone()
    };
    let hoop = packages.iter().find(|p| p.name.as_str() == "hoop").unwrap();
    let edge = to_proxy(hoop);
    for package in &mut packages {
        if package.name.as_str() == "hoop-recorder" {
            package.dependencies.push(edge.clone());
        }
    }
    assert_eq!(edges_too_many(&packages), ["hoop-recorder -> hoop-proxy"]);
}

#[test]
fn every_package_has_one_program_of_integration_tests_at_most() {
    // Each further one links Arrow and all the rest again.
    for package in metadata(false).packages {
        let tests = package
            .targets
            .iter()
            .filter(|t| t.kind.contains(&TargetKind::Test));
        let names: Vec<_> = tests.map(|t| t.name.clone()).collect();
        assert!(names.len() <= 1, "{}: {names:?}", package.name);
    }
}

#[test]
fn every_package_has_both_licences_and_is_not_published() {
    for package in metadata(false).packages {
        assert_eq!(
            package.license.as_deref(),
            Some("MIT OR Apache-2.0"),
            "{}",
            package.name
        );
        assert_eq!(
            package.publish.as_deref(),
            Some([].as_slice()),
            "{}",
            package.name
        );
    }
    for text in ["LICENSE-MIT", "LICENSE-APACHE"] {
        assert!(root().join(text).is_file(), "{text}");
    }
}

#[test]
fn lints_are_set_once() {
    for package in metadata(false).packages {
        let manifest = std::fs::read_to_string(&package.manifest_path).unwrap();
        assert!(
            manifest.contains("[lints]\nworkspace = true\n"),
            "{}",
            package.manifest_path
        );
    }
}

#[test]
fn modules_are_files_beside_their_folders() {
    let mut wrong = files(".rs");
    wrong.retain(|path| path.ends_with("mod.rs"));
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn files_are_about_one_idea() {
    let mut exceptions: BTreeMap<_, _> = LONG_FILES.iter().copied().collect();
    for path in files(".rs") {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text
            .lines()
            .take_while(|line| *line != "#[cfg(test)]")
            .count();
        let name = relative(&path);
        let excepted = exceptions.remove(name.as_str()).is_some();
        assert!(
            excepted || lines <= FILE_LINES_MAX,
            "{name} has {lines} lines: find the second idea in it, or say in LONG_FILES why it has one"
        );
    }
    assert!(exceptions.is_empty(), "no longer there: {exceptions:?}");
}

/// What `deny.toml` lists under `key`: the first string of every line up to the closing bracket.
fn denied_or_allowed(key: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("deny.toml")).unwrap();
    let begin = format!("{key} = [");
    let list = text.lines().skip_while(|line| *line != begin).skip(1);
    let list: BTreeSet<_> = list
        .take_while(|line| *line != "]")
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| line.split('"').nth(1).map(str::to_owned))
        .collect();
    assert!(!list.is_empty(), "{key}");
    list
}

#[test]
fn every_dependency_has_a_licence_that_is_allowed() {
    let allowed = denied_or_allowed("allow");
    let allows = |licence: &str| {
        let expression = spdx::Expression::parse_mode(licence, spdx::ParseMode::LAX).unwrap();
        expression.evaluate(|requirement| allowed.contains(&requirement.to_string()))
    };
    assert!(!allows("GPL-3.0-only") && !allows("MIT AND AGPL-3.0-only") && allows("MIT/GPL-3.0"));
    for package in metadata(true).packages {
        let licence = package.license.as_deref().unwrap_or_default();
        assert!(
            allows(licence),
            "{} {}: {licence:?}",
            package.name,
            package.version
        );
    }
}

#[test]
fn every_dependency_comes_from_the_registry() {
    for package in metadata(true).packages {
        match &package.source {
            None => assert!(package.manifest_path.starts_with(root().to_str().unwrap())),
            Some(source) => assert!(
                source.is_crates_io(),
                "{} comes from {source}",
                package.name
            ),
        }
    }
}

#[test]
fn nothing_that_is_banned_gets_into_a_build() {
    // Cargo.lock also names crates that no feature turns on, so it is the tree that counts.
    let tree = std::process::Command::new(env!("CARGO"))
        .current_dir(root())
        .args([
            "tree",
            "--workspace",
            "--locked",
            "--target",
            "all",
            "--edges",
            "all",
        ])
        .args(["--prefix", "none", "--format", "{p}"])
        .output()
        .unwrap();
    assert!(tree.status.success());
    let tree = String::from_utf8(tree.stdout).unwrap();
    let names: BTreeSet<_> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert!(names.contains("aws-lc-rs"), "the one TLS crypto provider");
    for banned in denied_or_allowed("deny") {
        if names.contains(banned.as_str()) {
            let users = direct_users(&banned);
            assert_eq!(
                users,
                wrappers(&banned),
                "cargo tree --target all -i {banned}"
            );
        }
    }
}

/// Those that `deny.toml` lets use what is banned for all others.
fn wrappers(banned: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("deny.toml")).unwrap();
    let begin = format!("    {{ crate = \"{banned}\"");
    let line = text.lines().find(|line| line.starts_with(&begin)).unwrap();
    let list = line.split_once("wrappers = [").map(|(_, rest)| rest);
    let list = list
        .and_then(|rest| rest.split(']').next())
        .unwrap_or_default();
    list.split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

fn direct_users(name: &str) -> BTreeSet<String> {
    let metadata = metadata(true);
    let nodes = metadata.resolve.as_ref().unwrap().nodes.iter();
    let ids = metadata
        .packages
        .iter()
        .filter(|package| package.name.as_str() == name);
    let ids: BTreeSet<_> = ids.map(|package| &package.id).collect();
    let users = nodes.filter(|node| node.dependencies.iter().any(|id| ids.contains(id)));
    let users: BTreeSet<_> = users.map(|node| &node.id).collect();
    let users = metadata
        .packages
        .iter()
        .filter(|package| users.contains(&package.id));
    users.map(|package| package.name.to_string()).collect()
}
