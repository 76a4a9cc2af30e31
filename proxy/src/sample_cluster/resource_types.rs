//! The resource types that the sample cluster serves.

/// One resource type.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ResourceType {
    /// API group; empty for the core group.
    pub(super) group: &'static str,
    /// API version.
    pub(super) version: &'static str,
    /// Plural, as in paths.
    pub(super) plural: &'static str,
    /// Singular.
    pub(super) singular: &'static str,
    /// Kind.
    pub(super) kind: &'static str,
    /// Whether its objects are in namespaces.
    pub(super) namespaced: bool,
    /// Short names for kubectl.
    pub(super) short: &'static [&'static str],
    /// Whether `kubectl get all` shows it.
    pub(super) in_all: bool,
    /// Subresources, as far as they are listed in discovery: name and kind.
    pub(super) subresources: &'static [(&'static str, &'static str)],
    /// Objects of it are kept; otherwise it can only be created, and answers at once (reviews).
    pub(super) stored: bool,
}

const CORE: ResourceType = ResourceType {
    group: "",
    version: "v1",
    plural: "",
    singular: "",
    kind: "",
    namespaced: true,
    short: &[],
    in_all: false,
    subresources: &[],
    stored: true,
};

const REVIEW: ResourceType = ResourceType {
    namespaced: false,
    stored: false,
    ..CORE
};

/// Every type served.
pub(super) static TYPES: &[ResourceType] = &[
    ResourceType {
        plural: "namespaces",
        singular: "namespace",
        kind: "Namespace",
        namespaced: false,
        short: &["ns"],
        subresources: &[("status", "Namespace")],
        ..CORE
    },
    ResourceType {
        plural: "nodes",
        singular: "node",
        kind: "Node",
        namespaced: false,
        short: &["no"],
        subresources: &[("status", "Node")],
        ..CORE
    },
    ResourceType {
        plural: "pods",
        singular: "pod",
        kind: "Pod",
        short: &["po"],
        in_all: true,
        subresources: &[("log", "Pod"), ("status", "Pod")],
        ..CORE
    },
    ResourceType {
        plural: "services",
        singular: "service",
        kind: "Service",
        short: &["svc"],
        in_all: true,
        ..CORE
    },
    ResourceType {
        plural: "configmaps",
        singular: "configmap",
        kind: "ConfigMap",
        short: &["cm"],
        ..CORE
    },
    ResourceType {
        plural: "secrets",
        singular: "secret",
        kind: "Secret",
        ..CORE
    },
    ResourceType {
        plural: "serviceaccounts",
        singular: "serviceaccount",
        kind: "ServiceAccount",
        short: &["sa"],
        subresources: &[("token", "TokenRequest")],
        ..CORE
    },
    ResourceType {
        plural: "events",
        singular: "event",
        kind: "Event",
        short: &["ev"],
        ..CORE
    },
    ResourceType {
        group: "apps",
        plural: "deployments",
        singular: "deployment",
        kind: "Deployment",
        short: &["deploy"],
        in_all: true,
        subresources: &[("status", "Deployment")],
        ..CORE
    },
    ResourceType {
        group: "apps",
        plural: "replicasets",
        singular: "replicaset",
        kind: "ReplicaSet",
        short: &["rs"],
        in_all: true,
        ..CORE
    },
    ResourceType {
        group: "authentication.k8s.io",
        plural: "selfsubjectreviews",
        singular: "selfsubjectreview",
        kind: "SelfSubjectReview",
        ..REVIEW
    },
    ResourceType {
        group: "authentication.k8s.io",
        plural: "tokenreviews",
        singular: "tokenreview",
        kind: "TokenReview",
        ..REVIEW
    },
    ResourceType {
        group: "authorization.k8s.io",
        plural: "selfsubjectaccessreviews",
        singular: "selfsubjectaccessreview",
        kind: "SelfSubjectAccessReview",
        ..REVIEW
    },
];

impl ResourceType {
    /// `v1`, or `apps/v1`.
    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The verbs of discovery.
    pub(super) fn verbs(&self) -> &'static [&'static str] {
        if self.stored {
            &[
                "create",
                "delete",
                "deletecollection",
                "get",
                "list",
                "patch",
                "update",
                "watch",
            ]
        } else {
            &["create"]
        }
    }
}

/// The groups and versions served, core first, each once.
pub(super) fn group_versions() -> Vec<(&'static str, &'static str)> {
    let mut all: Vec<_> = TYPES.iter().map(|t| (t.group, t.version)).collect();
    all.dedup();
    all
}

/// The type at a path.
pub(super) fn by_path(group: &str, version: &str, plural: &str) -> Option<&'static ResourceType> {
    TYPES
        .iter()
        .find(|t| t.group == group && t.version == version && t.plural == plural)
}

/// The type of an object.
pub(super) fn by_kind(api_version: &str, kind: &str) -> Option<&'static ResourceType> {
    TYPES
        .iter()
        .find(|t| t.kind == kind && t.api_version() == api_version)
}
