//! Events as CloudEvents 1.0 in binary mode: the value of a message is the exact bytes of the event, and what a broker
//! or a subscriber wants to know without reading them is in headers.
//!
//! | attribute         | value                                            | NATS             | Kafka            |
//! |-------------------|--------------------------------------------------|------------------|------------------|
//! | `specversion`     | `1.0`                                            | `ce-specversion` | `ce_specversion` |
//! | `id`              | the event id                                     | `ce-id`          | `ce_id`          |
//! | `source`          | `/clusters/<cluster>`, percent-encoded           | `ce-source`      | `ce_source`      |
//! | `type`            | `hoop.audit.<kind>`                              | `ce-type`        | `ce_type`        |
//! | `partitionkey`    | the session id                                   | `ce-partitionkey`| `ce_partitionkey`|
//! | `auditclass`      | the retention class (an extension of ours)       | `ce-auditclass`  | `ce_auditclass`  |
//! | `datacontenttype` | `application/json`                               | `content-type`   | `content-type`   |
//!
//! The names are those of the Kafka binding, and of the draft of the NATS binding that knows headers. There is no
//! `time`: the event says when it happened, to the microsecond, and a copy could only differ.
//!
//! Every value is printable ASCII without spaces at its ends, so that no header can be torn or forged by a name.

use std::borrow::Cow;
use std::fmt::Write;

use hoop_schema::Class;

use super::Outgoing;

/// Before the kind, in the attribute `type`.
pub const TYPE_PREFIX: &str = "hoop.audit.";

/// Headers of a message.
pub const HEADERS: usize = 7;

/// One header: its name and its value.
pub type Header<'a> = (&'static str, Cow<'a, str>);

/// How attributes are named as headers of a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// `ce-id`.
    Nats,
    /// `ce_id`.
    Kafka,
}

/// What all events of one log have in common.
#[derive(Clone, Debug)]
pub struct Origin {
    binding: Binding,
    source: String,
    class: Class,
}

impl Origin {
    /// Events of a cluster, whatever its name, in the log of a class.
    pub fn new(binding: Binding, cluster: &str, class: Class) -> Self {
        let mut source = "/clusters/".to_owned();
        for byte in cluster.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                source.push(char::from(byte));
            } else {
                write!(source, "%{byte:02X}").expect("a string takes everything");
            }
        }
        Self {
            binding,
            source,
            class,
        }
    }

    /// The headers of one event.
    pub fn headers<'a>(&'a self, event: &Outgoing) -> [Header<'a>; HEADERS] {
        let name = |nats, kafka| match self.binding {
            Binding::Nats => nats,
            Binding::Kafka => kafka,
        };
        let session = event.session_id.to_string();
        [
            (name("ce-specversion", "ce_specversion"), "1.0".into()),
            (name("ce-id", "ce_id"), event.event_id.to_string().into()),
            (name("ce-source", "ce_source"), self.source.as_str().into()),
            (
                name("ce-type", "ce_type"),
                [TYPE_PREFIX, event.kind].concat().into(),
            ),
            (name("ce-partitionkey", "ce_partitionkey"), session.into()),
            (
                name("ce-auditclass", "ce_auditclass"),
                self.class.as_str().into(),
            ),
            ("content-type", "application/json".into()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use hoop_schema::{EventId, SessionId};

    use super::*;

    fn intent() -> Outgoing {
        Outgoing {
            event_id: EventId::new(1, &[7; 10]),
            session_id: SessionId::from_bytes([0xab; 16]),
            kind: "intent",
            bytes: "{}".into(),
            linger: false,
            spool: false,
        }
    }

    #[test]
    fn an_event_has_the_attributes_of_its_binding() {
        let class = Class::new("long").unwrap();
        let origin = Origin::new(Binding::Nats, "prod-1", class.clone());
        let event = intent();
        let headers = origin.headers(&event);
        let headers = headers.map(|(name, value)| format!("{name}: {value}"));
        let id = event.event_id;
        assert_eq!(
            headers,
            [
                "ce-specversion: 1.0".to_owned(),
                format!("ce-id: {id}"),
                "ce-source: /clusters/prod-1".to_owned(),
                "ce-type: hoop.audit.intent".to_owned(),
                format!("ce-partitionkey: {}", "ab".repeat(16)),
                "ce-auditclass: long".to_owned(),
                "content-type: application/json".to_owned(),
            ]
        );
        let kafka = Origin::new(Binding::Kafka, "prod-1", class);
        let names = kafka.headers(&event).map(|(name, _)| name);
        assert_eq!(names[1], "ce_id");
        assert_eq!(names[6], "content-type");
    }

    #[test]
    fn a_cluster_with_an_odd_name_cannot_forge_a_header() {
        let origin = Origin::new(Binding::Nats, "a b/ü\r\nce-id: x%", Class::standard());
        let event = intent();
        assert_eq!(
            origin.headers(&event)[2].1,
            "/clusters/a%20b%2F%C3%BC%0D%0Ace-id%3A%20x%25"
        );
    }
}
