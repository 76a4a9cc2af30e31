//! Where in a Kubernetes object a value stands, and so whether it is secret.

use super::MaskMode;
use super::fields::{NOWHERE, Place};
use super::value::Form;

/// Annotations that hold the object as it was applied, as JSON.
const APPLIED_JSON: [&[u8]; 2] = [
    b"kubectl.kubernetes.io/last-applied-configuration",
    b"kapp.k14s.io/original",
];

/// Annotations that hold the object as it was applied, compressed.
const APPLIED_ENCODED: [&[u8]; 2] = [
    b"objectset.rio.cattle.io/applied",
    b"banzaicloud.com/last-applied",
];

/// What a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A Kubernetes object, a list of them, a Table, a row of one, or a watch frame.
    Object,
    /// `items` or `rows`.
    Objects,
    Metadata,
    Annotations,
    /// `status` of a TokenRequest, `spec` of a TokenReview.
    TokenHolder,
    /// A JSON patch.
    Patch,
    PatchOperation,
    /// Every value inside is secret.
    Secret(Form),
    /// Every value inside is masked by a rule of the policy.
    Field(Form, MaskMode),
    /// Rules of the policy look at what is inside.
    Look,
    /// Cells of a row, which may show fields that are masked.
    Cells,
    /// Nothing inside matters.
    Skip,
}

/// What the next value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// The whole body.
    Root,
    Object,
    Objects,
    Metadata,
    Annotations,
    TokenHolder,
    PatchOperation,
    Kind,
    ApiVersion,
    /// An annotation that holds an object as JSON.
    Applied,
    Secret(Form),
    /// Masked by a rule of the policy.
    Field(Form, MaskMode),
    /// Rules of the policy look at it.
    Look,
    Cells,
    Skip,
}

/// Whether an object is a Secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Secrecy {
    Yes,
    No,
    /// Its kind is not known yet: masked, to be safe.
    Doubt,
}

/// What an object says of itself in `kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Unknown,
    /// A Secret or a list of them.
    Secret,
    TokenRequest,
    TokenReview,
    /// A wrapper that says nothing of what it holds: `List`, `Table`, `PartialObjectMetadata(List)`.
    Wrapper,
    Other,
}

/// One open container.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) role: Role,
    pub(super) is_array: bool,
    /// What is known from outside: from the parent, or for the body from the request.
    inherited: Secrecy,
    kind: Kind,
    /// Whether `apiVersion` says that this is no Secret.
    is_foreign: bool,
    /// Length of the path before this container.
    pub(super) path_length: usize,
    /// Where the container stands among the fields of the policy's rules.
    pub(super) place: Place,
    /// Where those fields begin in the object that this is, or that is part of this.
    pub(super) root: Place,
}

impl Kind {
    fn of(text: &[u8]) -> Self {
        match text {
            b"Secret" | b"SecretList" => Self::Secret,
            b"TokenRequest" => Self::TokenRequest,
            b"TokenReview" => Self::TokenReview,
            b"List" | b"Table" | b"PartialObjectMetadata" | b"PartialObjectMetadataList" => {
                Self::Wrapper
            }
            b"" => Self::Unknown,
            _ => Self::Other,
        }
    }
}

impl Frame {
    pub(super) fn new(role: Role, is_array: bool, inherited: Secrecy, path_length: usize) -> Self {
        Self {
            role,
            is_array,
            inherited,
            kind: Kind::Unknown,
            is_foreign: false,
            path_length,
            place: NOWHERE,
            root: NOWHERE,
        }
    }

    /// Whether the object has not said what it is, or is a wrapper of others.
    pub(super) fn is_wrapper(&self) -> bool {
        matches!(self.kind, Kind::Wrapper | Kind::Unknown)
    }

    /// Whether the object that this container is, or is part of, is a Secret.
    pub(super) fn secrecy(&self) -> Secrecy {
        match (self.kind, self.inherited) {
            (_, Secrecy::Yes) | (Kind::Secret, _) => Secrecy::Yes,
            (Kind::Other | Kind::TokenRequest | Kind::TokenReview, _) => Secrecy::No,
            (Kind::Wrapper | Kind::Unknown, Secrecy::No) => Secrecy::No,
            (Kind::Unknown, Secrecy::Doubt) if self.is_foreign => Secrecy::No,
            (Kind::Wrapper | Kind::Unknown, Secrecy::Doubt) => Secrecy::Doubt,
        }
    }

    /// Takes the value of `kind`. Where it is there twice, Secret stays. `is_other`: the request says that the body
    /// is about something else than Secrets, which settles what a wrapper holds.
    pub(super) fn note_kind(&mut self, text: &[u8], is_other: bool) {
        if self.kind != Kind::Secret {
            self.kind = Kind::of(text);
        }
        if self.kind == Kind::Wrapper && is_other && self.inherited == Secrecy::Doubt {
            self.inherited = Secrecy::No;
        }
    }

    /// Takes the value of `apiVersion`. Secrets are `v1`, and the wrappers of `meta.k8s.io` say nothing.
    pub(super) fn note_api_version(&mut self, text: &[u8]) {
        self.is_foreign = !text.is_empty() && text != b"v1" && !text.starts_with(b"meta.k8s.io/");
    }

    /// What the value of a key is.
    pub(super) fn slot_of_key(&self, key: &[u8]) -> Slot {
        match self.role {
            Role::Object => self.slot_in_object(key),
            Role::Metadata if key == b"annotations" => Slot::Annotations,
            Role::Annotations if APPLIED_JSON.contains(&key) => Slot::Applied,
            Role::Annotations if APPLIED_ENCODED.contains(&key) => Slot::Secret(Form::Plain),
            Role::TokenHolder if key == b"token" => Slot::Secret(Form::Plain),
            Role::PatchOperation if key == b"value" => Slot::Secret(Form::Plain),
            Role::Secret(form) => Slot::Secret(form),
            Role::Field(form, mode) => Slot::Field(form, mode),
            _ => Slot::Skip,
        }
    }

    fn slot_in_object(&self, key: &[u8]) -> Slot {
        let may_be_secret = || self.secrecy() != Secrecy::No;
        let holds_token = |kind: Kind| {
            self.kind == kind || (self.kind == Kind::Unknown && self.inherited != Secrecy::No)
        };
        match key {
            b"kind" => Slot::Kind,
            b"apiVersion" => Slot::ApiVersion,
            b"items" | b"rows" => Slot::Objects,
            b"object" => Slot::Object,
            b"metadata" if may_be_secret() => Slot::Metadata,
            b"data" if may_be_secret() => Slot::Secret(Form::Base64),
            b"stringData" if may_be_secret() => Slot::Secret(Form::Plain),
            b"status" if holds_token(Kind::TokenRequest) => Slot::TokenHolder,
            b"spec" if holds_token(Kind::TokenReview) => Slot::TokenHolder,
            _ => Slot::Skip,
        }
    }

    /// What an item of this array is.
    pub(super) fn slot_of_item(&self) -> Slot {
        match self.role {
            Role::Objects => Slot::Object,
            Role::Patch => Slot::PatchOperation,
            Role::Secret(form) => Slot::Secret(form),
            Role::Field(form, mode) => Slot::Field(form, mode),
            _ => Slot::Skip,
        }
    }
}

impl Slot {
    /// What a container in this slot is. `is_secret`: the request says that the body is about Secrets.
    pub(super) fn role(self, is_array: bool, is_secret: bool) -> Role {
        match (self, is_array) {
            (Self::Secret(form), _) => Role::Secret(form),
            (Self::Field(form, mode), _) => Role::Field(form, mode),
            (Self::Look, _) => Role::Look,
            (Self::Cells, true) => Role::Cells,
            (Self::Applied, _) => Role::Secret(Form::Plain),
            (Self::Root, true) if is_secret => Role::Patch,
            (Self::Objects, true) => Role::Objects,
            (Self::Root | Self::Object, false) => Role::Object,
            (Self::Metadata, false) => Role::Metadata,
            (Self::Annotations, false) => Role::Annotations,
            (Self::TokenHolder, false) => Role::TokenHolder,
            (Self::PatchOperation, false) => Role::PatchOperation,
            _ => Role::Skip,
        }
    }
}
