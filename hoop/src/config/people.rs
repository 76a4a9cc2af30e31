//! Section `people`: who gets a kubeconfig.

use hoop_proxy::yaml::Node;

use super::tree::Reader;
use super::{Environment, keys};

/// Groups of the person who starts a gateway without configured people; the default policy knows them.
pub(super) const DEFAULT_GROUP: &str = "administrators";

/// A person who gets a client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Name of the user.
    pub name: String,
    /// Groups of the user.
    pub groups: Vec<String>,
}

/// The people of the file; without any, the person who starts the gateway.
pub(super) fn read(reader: &mut Reader, environment: &Environment) -> Vec<Person> {
    let mut people: Vec<Person> = Vec::new();
    for node in reader.items("people") {
        let Some(person) = person(reader, &node) else {
            continue;
        };
        if people.iter().any(|other| other.name == person.name) {
            reader.note(
                node.line,
                format!("{:?} is there twice among people", person.name),
            );
        }
        people.push(person);
    }
    if people.is_empty() {
        let user = ["USER", "LOGNAME"]
            .iter()
            .find_map(|key| environment.get(*key));
        let name = user.filter(|name| fits(name).is_none()).cloned();
        people.push(Person {
            name: name.unwrap_or_else(|| "admin".into()),
            groups: vec![DEFAULT_GROUP.into()],
        });
    }
    people
}

fn person(reader: &mut Reader, node: &Node) -> Option<Person> {
    let known = keys::PERSON_KEYS.map(|key| key.path);
    let entries = reader.map(node, "a person", &known)?;
    let mut name = None;
    let mut groups = Vec::new();
    for (key, value) in entries {
        match key.as_str() {
            "name" => name = reader.text(&value, "name"),
            _ => groups = reader.texts(&value, "groups"),
        }
    }
    let Some(name) = name else {
        reader.note(
            node.line,
            "a person needs a name, such as name: alice".into(),
        );
        return None;
    };
    for text in std::iter::once(&name).chain(&groups) {
        if let Some(why) = fits(text) {
            reader.note(node.line, format!("{text:?} {why}"));
        }
    }
    Some(Person { name, groups })
}

/// What is wrong with the name of a person or a group, if anything is.
fn fits(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.trim() != name || name.chars().any(char::is_control) {
        return Some(
            "is no name: it is empty, begins or ends with white space, or has a control character",
        );
    }
    name.starts_with("system:").then_some(
        "cannot be used: names that begin with system: belong to the cluster's own components",
    )
}
