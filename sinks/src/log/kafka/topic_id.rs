//! The id of a topic (KIP-516), which tells it from any other that had or will have its name.
//!
//! librdkafka reads it with every answer about a topic, but its Rust interface does not hand it out, and calling the C
//! library ourselves would need unsafe code. It says it in one debug line, though, when it learns the id or sees it
//! change; every client here asks for that line (`debug=metadata`) and reads it. The line is that of the librdkafka
//! that is built in; a test against a real broker fails should another version word it differently.

use std::fmt;

use hoop_schema::SourceId;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

/// Zero, in base64url: how librdkafka writes that there is no id.
const NONE: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// Characters of an id.
const LENGTH: usize = 22;

/// The id of a topic: a UUID in base64 without padding.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct TopicId(String);

/// What the clients of one topic learn about its id.
#[derive(Debug)]
pub(crate) struct TopicIds {
    topic: String,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The one that the log was opened with.
    first: Option<TopicId>,
    /// The first other one.
    other: Option<TopicId>,
}

/// The topic is not the one that the log was opened with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "topic {topic} was deleted and created again (its id was {was}, now it is {is}): another log under the same \
     name; start again to use it, and find out what was lost"
)]
pub(crate) struct Recreated {
    topic: String,
    was: TopicId,
    is: TopicId,
}

impl TopicId {
    /// The id in a line of librdkafka's log, if it is about `topic`.
    fn in_line(line: &str, topic: &str) -> Option<Self> {
        let (_, rest) = line.split_once("Topic ")?;
        let ids = rest
            .strip_prefix(topic)?
            .strip_prefix(" changed id from ")?;
        let (_, id) = ids.split_once(" to ")?;
        let id = id.get(..LENGTH)?;
        let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/' | b'-' | b'_');
        (id != NONE && id.bytes().all(fits)).then(|| Self(id.to_owned()))
    }

    /// The name for ever of the log in the topic.
    pub(crate) fn source(&self) -> SourceId {
        let digest: [u8; 32] = Sha256::digest(self.0.as_bytes()).into();
        let [a, b, c, d, ..] = digest;
        SourceId::from_bytes([a, b, c, d])
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TopicIds {
    pub(crate) fn new(topic: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            seen: Mutex::default(),
        }
    }

    /// Reads a line of librdkafka's log. Returns whether it showed that the topic is another one, for the first time.
    pub(crate) fn observe(&self, line: &str) -> bool {
        let Some(id) = TopicId::in_line(line, &self.topic) else {
            return false;
        };
        let mut seen = self.seen.lock();
        match &seen.first {
            None => {
                seen.first = Some(id);
                false
            }
            Some(first) if *first == id => false,
            Some(_) => seen.other.replace(id).is_none(),
        }
    }

    /// The id that was seen first.
    pub(crate) fn id(&self) -> Option<TopicId> {
        self.seen.lock().first.clone()
    }

    /// Whether it is still that topic.
    pub(crate) fn check(&self) -> Result<(), Recreated> {
        let seen = self.seen.lock();
        match (&seen.first, &seen.other) {
            (Some(was), Some(is)) => Err(Recreated {
                topic: self.topic.clone(),
                was: was.clone(),
                is: is.clone(),
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "[thrd:main]: Topic audit.prod.standard changed id from AAAAAAAAAAAAAAAAAAAAAA to \
                         9OR2M7fxR-etQ93tqDUdKA";
    const SECOND: &str = "[thrd:main]: Topic audit.prod.standard changed id from 9OR2M7fxR+etQ93tqDUdKA to \
                          wL1o3hUuSn/yZ6uRKZJe0w";

    #[test]
    fn the_first_id_is_kept_and_another_one_is_noticed_once() {
        let ids = TopicIds::new("audit.prod.standard");
        assert_eq!(ids.id(), None);
        assert!(!ids.observe(FIRST));
        assert!(!ids.observe(FIRST));
        let source = ids.id().unwrap().source();
        assert_eq!(ids.check(), Ok(()));
        assert!(ids.observe(SECOND));
        assert!(!ids.observe(SECOND));
        assert_eq!(ids.id().unwrap().source(), source);
        let error = ids.check().unwrap_err().to_string();
        assert!(error.contains("wL1o3hUuSn/yZ6uRKZJe0w"), "{error}");
    }

    #[test]
    fn lines_about_other_topics_or_other_things_say_nothing() {
        let ids = TopicIds::new("audit.prod.standard");
        for line in [
            "",
            "Topic audit.prod.standard2 changed id from AAAAAAAAAAAAAAAAAAAAAA to 9OR2M7fxR-etQ93tqDUdKA",
            "Topic audit.prod.standard changed id from AAAAAAAAAAAAAAAAAAAAAA to AAAAAAAAAAAAAAAAAAAAAA",
            "Topic audit.prod.standard changed id from AAAAAAAAAAAAAAAAAAAAAA to 9OR2",
            "Topic audit.prod.standard [3] is the same",
        ] {
            assert!(!ids.observe(line));
            assert_eq!(ids.id(), None, "{line}");
        }
    }
}
