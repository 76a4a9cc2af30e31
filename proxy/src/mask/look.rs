//! The machine's part in the policy's masking rules: which values they look at, and how.
//!
//! What is masked by the kind of an object goes before; a rule can add to it and never take away.

use std::sync::Arc;

use super::fields::{NOWHERE, Place};
use super::machine::Machine;
use super::place::{Role, Slot};
use super::rules::RuleView;
use super::scan::Scanner;
use super::string::{escape_into, plain_run};
use super::text::TextRules;
use super::value::Form;
use super::{MaskKey, MaskMode};

/// The API groups that the API server itself serves, whose Tables are known.
const BUILT_IN_GROUPS: [&str; 24] = [
    "",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "apps",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "extensions",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
    "storagemigration.k8s.io",
];

/// The rules that a machine follows.
#[derive(Debug, Clone)]
pub(super) struct Looking {
    pub(super) view: Arc<RuleView>,
    /// Where the fields begin in an object of which only the request tells.
    pub(super) root: Place,
    /// Whether cells of Tables may show fields that are masked.
    masks_cells: bool,
}

/// A string that is searched.
#[derive(Debug)]
pub(super) struct Searched {
    scanner: Scanner,
    plain: Vec<u8>,
}

impl Looking {
    pub(super) fn new(view: Arc<RuleView>, resource: &str) -> Self {
        let root = view.root_of_resource(resource);
        Self {
            view,
            root,
            masks_cells: false,
        }
    }

    /// The group of the request's resource. What a custom resource shows in Tables is up to who made it; the columns of
    /// all others show nothing that is masked.
    pub(super) fn of_group(&mut self, group: &str, resource: &str) {
        let is_custom = !BUILT_IN_GROUPS.contains(&group);
        self.masks_cells = is_custom && self.view.names_resource(resource);
    }

    /// Whether operations of a JSON patch may write a field that is masked.
    pub(super) fn masks_patches(&self) -> bool {
        self.root != NOWHERE
    }

    /// What a value is at `place`, if nothing but the rules says so.
    fn slot(&self, place: Place) -> Slot {
        match self.view.whole(place) {
            Some((mode, form)) => Slot::Field(form, mode),
            None if place != NOWHERE || self.view.text().is_some() => Slot::Look,
            None => Slot::Skip,
        }
    }
}

impl Machine {
    /// After a key, of which the kind of the object has said what its value is: the rules' part.
    pub(super) fn look_at_key(&mut self) {
        let (Some(looking), Some(frame)) = (&self.looking, self.frames.last()) else {
            return;
        };
        let base = if frame.role == Role::Object {
            frame.root
        } else {
            frame.place
        };
        let key = self.text.as_slice();
        self.place = looking.view.tree().key(base, key);
        let own = looking.slot(self.place);
        self.slot = match (frame.role, self.slot) {
            (_, Slot::Kind | Slot::ApiVersion | Slot::Object | Slot::Objects) => self.slot,
            (_, Slot::Secret(form)) if self.mode == MaskMode::None => match (frame.role, own) {
                (_, Slot::Field(..)) => own,
                // A patch does not say what it writes, packed annotations not what they hold.
                (Role::PatchOperation | Role::Annotations, _) => {
                    Slot::Field(form, MaskMode::Redact)
                }
                _ => own,
            },
            (_, Slot::Secret(_) | Slot::Field(..)) => self.slot,
            (Role::Object, _) if key == b"cells" && looking.masks_cells && frame.is_wrapper() => {
                Slot::Cells
            }
            (Role::Object, _) if key == b"metadata" && !matches!(own, Slot::Field(..)) => {
                Slot::Metadata
            }
            (Role::Metadata, Slot::Annotations) | (Role::Annotations, Slot::Applied)
                if !matches!(own, Slot::Field(..)) =>
            {
                self.slot
            }
            // What an object is found by is looked at only where a path leads there.
            (Role::Metadata, _) if self.place == NOWHERE && key != b"labels" => Slot::Skip,
            (Role::Object, Slot::TokenHolder) if self.mode != MaskMode::None => self.slot,
            _ => own,
        };
    }

    /// Before an item of the innermost array.
    pub(super) fn look_at_item(&mut self, is_first: bool) {
        let (Some(looking), Some(frame)) = (&self.looking, self.frames.last()) else {
            return;
        };
        if frame.role == Role::Cells {
            // The first is the name.
            self.slot = match is_first {
                true => looking.slot(NOWHERE),
                false => Slot::Field(Form::Plain, MaskMode::Redact),
            };
            return;
        }
        self.place = looking.view.tree().item(frame.place);
        if self.slot == Slot::Skip && frame.role == Role::Look {
            self.slot = looking.slot(self.place);
        }
    }

    /// What a container is that nothing but the rules looks into.
    pub(super) fn role_looked_at(&self, role: Role) -> Role {
        let looks = self.looking.is_some() && self.slot != Slot::Skip;
        if role == Role::Skip && looks {
            Role::Look
        } else {
            role
        }
    }

    /// After the kind of an object was read.
    pub(super) fn look_at_kind(&mut self) {
        let (Some(looking), Some(frame)) = (&self.looking, self.frames.last_mut()) else {
            return;
        };
        if !frame.is_wrapper() {
            frame.root = looking.view.root_of_kind(&self.text);
        }
    }

    /// What a string is searched for; nothing when all of it is in the chunk, after its quote, and nothing is found.
    pub(super) fn searched(&self, rest: &[u8]) -> Option<Searched> {
        let rules = self.looking.as_ref()?.view.text_at(self.place)?;
        let run = plain_run(rest);
        if rest.get(run) == Some(&b'"') && !rules.is_in(&rest[..run]) {
            return None;
        }
        Some(Searched::new(rules, &self.key))
    }
}

impl Searched {
    fn new(rules: &Arc<TextRules>, key: &Arc<MaskKey>) -> Self {
        Self {
            scanner: Scanner::new(Arc::clone(rules), Arc::clone(key)),
            plain: Vec::new(),
        }
    }

    /// Takes decoded bytes of the string.
    pub(super) fn take(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        self.plain.clear();
        self.scanner.push(piece, &mut self.plain);
        escape_into(&self.plain, out);
    }

    /// Ends the string; how many secrets were in it.
    pub(super) fn finish(mut self, out: &mut Vec<u8>) -> u64 {
        self.plain.clear();
        self.scanner.finish(&mut self.plain);
        escape_into(&self.plain, out);
        self.scanner.masked()
    }
}

/// The form and mode of a value that is masked whole.
pub(super) fn masked_whole(slot: Slot, mode: MaskMode) -> Option<(Form, MaskMode)> {
    match slot {
        Slot::Secret(form) => Some((form, mode)),
        Slot::Field(form, mode) => Some((form, mode)),
        _ => None,
    }
}
