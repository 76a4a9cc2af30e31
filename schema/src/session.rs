//! Which session a request belongs to, as a pure function.
//!
//! A session id is the first 16 bytes of the SHA-256 of its basis, each part preceded by its length, so that two
//! gateways that see parts of one `kubectl` invocation derive the same id without talking to each other, and nobody
//! can make two different bases collide by moving a character from one part to the next.

use sha2::{Digest, Sha256};

use crate::ids::{Class, ProducerId, SessionId, Shard};
use crate::kinds::request::AuthMethod;
use crate::kinds::session::SessionBasis;

/// A session that has been idle for this long has ended, in microseconds: 15 minutes.
pub const SESSION_IDLE_MICROS: i64 = 15 * 60 * 1_000_000;

/// A session that has been open for this long rolls over, in microseconds: 24 hours, so that a controller's endless
/// connection stays bounded.
pub const SESSION_OPEN_MICROS: i64 = 24 * 3600 * 1_000_000;

/// The longest `Kubectl-Session` header that is taken as one, in bytes; kubectl sends a UUID.
pub const KUBECTL_SESSION_BYTES_MAX: usize = 128;

/// What a session is derived from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Basis {
    /// One `Kubectl-Session` header of one authenticated identity.
    KubectlSession {
        /// The cluster, as in the envelope.
        cluster: String,
        /// How the identity was proved.
        auth_method: AuthMethod,
        /// The authenticated user name.
        username: String,
        /// The header's value.
        header: String,
    },
    /// One client connection.
    Connection {
        /// The gateway that accepted it.
        producer_id: ProducerId,
        /// Its epoch.
        producer_epoch: u64,
        /// Number of the connection in that epoch.
        connection: u64,
        /// The authenticated user name; a connection that changes its user changes its session. Empty for nobody.
        username: String,
    },
    /// A producer's own notices.
    Producer {
        /// The producer.
        producer_id: ProducerId,
        /// Its epoch.
        producer_epoch: u64,
        /// The class they are written to.
        class: Class,
        /// The shard they are written to.
        shard: Shard,
    },
}

impl Basis {
    /// The id of the session on this basis. `part` is 0 at first, and grows by one whenever the session ended or
    /// rolled over and its basis comes back.
    pub fn session_id(&self, part: u32) -> SessionId {
        let mut hash = Sha256::new_with_prefix(b"hoop.session.v1");
        let mut add = |text: &[u8]| {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        };
        match self {
            Self::KubectlSession {
                cluster,
                auth_method,
                username,
                header,
            } => {
                add(b"kubectl_session");
                add(cluster.as_bytes());
                add(&[*auth_method as u8]);
                add(username.as_bytes());
                add(header.as_bytes());
            }
            Self::Connection {
                producer_id,
                producer_epoch,
                connection,
                username,
            } => {
                add(b"connection");
                add(producer_id.as_str().as_bytes());
                add(&producer_epoch.to_be_bytes());
                add(&connection.to_be_bytes());
                add(username.as_bytes());
            }
            Self::Producer {
                producer_id,
                producer_epoch,
                class,
                shard,
            } => {
                add(b"producer");
                add(producer_id.as_str().as_bytes());
                add(&producer_epoch.to_be_bytes());
                add(class.as_str().as_bytes());
                add(&shard.0.to_be_bytes());
            }
        }
        add(&part.to_be_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        SessionId::from_bytes(
            digest[..16]
                .try_into()
                .expect("sixteen of thirty-two bytes"),
        )
    }

    /// What kind of basis it is, as `session.start` says it.
    pub fn kind(&self) -> SessionBasis {
        match self {
            Self::KubectlSession { .. } => SessionBasis::KubectlSession,
            Self::Connection { .. } => SessionBasis::Connection,
            Self::Producer { .. } => SessionBasis::Producer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kubectl(username: &str, header: &str) -> Basis {
        Basis::KubectlSession {
            cluster: "c".into(),
            auth_method: AuthMethod::ClientCertificate,
            username: username.into(),
            header: header.into(),
        }
    }

    #[test]
    fn two_gateways_derive_the_same_id() {
        // The id is fixed for ever: evidence of years ago must find its sessions.
        assert_eq!(
            kubectl("alice", "u-1").session_id(0).to_string(),
            "4d418e177c8b02ab70d5a533b550b778"
        );
    }

    proptest! {
        #[test]
        fn moving_a_character_between_parts_changes_the_session(name in "[a-z]{2,8}", header in "[a-z]{2,8}") {
            let here = kubectl(&name, &header).session_id(0);
            let moved = kubectl(&name[1..], &format!("{}{header}", &name[..1])).session_id(0);
            prop_assert_ne!(here, moved);
        }

        #[test]
        fn parts_are_sessions_of_their_own(name in ".{0,8}", part in 0u32..1000) {
            let basis = kubectl(&name, "h");
            prop_assert_ne!(basis.session_id(part), basis.session_id(part + 1));
        }
    }
}
