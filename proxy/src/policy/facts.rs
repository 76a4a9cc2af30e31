//! What a decision is made about: who asks, for what, from where, when, and what they send along.
//!
//! Values for conditions are made when a condition first asks for them: most decisions need none.

mod object;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use cel::common::types::{CelBool, CelInt, CelList, CelMap, CelMapKey, CelString, CelTimestamp};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use chrono::{DateTime, Datelike, Timelike, Utc};
use hoop_schema::Timestamp;
use hoop_schema::kinds::request::User;

use self::object::Parsed;
use super::AUTHENTICATED;
use super::webhook::{Answer, FailurePolicy, Known, Webhook};
use crate::request_info::RequestInfo;

/// The variables of conditions that take the body to be read.
pub(super) const OBJECT_VARIABLES: [&str; 3] = ["object", "podSpecs", "containers"];

/// What a decision is made about.
#[derive(Debug)]
pub struct Facts<'a> {
    /// Who asks.
    pub user: &'a User,
    /// For what.
    pub info: &'a RequestInfo,
    /// From where: the peer of the connection.
    pub source_ip: IpAddr,
    /// When, by the gateway's clock.
    pub now: Timestamp,
    /// Through whom.
    pub through: Through<'a>,
    /// What they send along.
    pub body: BodyFact<'a>,
    webhooks: Webhooks,
    values: Values,
}

/// Through whom a user asks, as the credential says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Through<'a> {
    /// Who acts for the user. RFC 8693 §4.1 lets nobody but the current actor count, the outermost `act` of a token.
    pub actor: Option<&'a str>,
    /// The client that the credential was issued to.
    pub client: Option<&'a str>,
}

/// What is known of a request's body.
#[derive(Debug, Clone, Copy)]
pub enum BodyFact<'a> {
    /// It is not read yet; it will be, if a rule asks for it.
    Unread,
    /// There is none to look at: the question is whether such a request would be allowed.
    Unknown,
    /// As it came; empty when the request has none.
    Read(&'a [u8]),
}

/// What conditions can know of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Object<'a> {
    Unread,
    Unknown,
    Unreadable(&'a str),
    Read,
}

/// What webhooks said.
#[derive(Debug, Clone, Default)]
struct Webhooks {
    answers: Vec<(Arc<Webhook>, Answer)>,
    /// Those that said nothing are not asked.
    open: bool,
}

#[derive(Debug, Default)]
struct Values {
    request: OnceLock<Box<dyn Val>>,
    user: OnceLock<Box<dyn Val>>,
    time: OnceLock<Box<dyn Val>>,
    source: OnceLock<Box<dyn Val>>,
    object: OnceLock<Result<Parsed, String>>,
}

impl<'a> Facts<'a> {
    /// A request whose body is not read yet.
    pub fn new(user: &'a User, info: &'a RequestInfo, source_ip: IpAddr, now: Timestamp) -> Self {
        Self {
            user,
            info,
            source_ip,
            now,
            through: Through::default(),
            body: BodyFact::Unread,
            webhooks: Webhooks::default(),
            values: Values::default(),
        }
    }

    /// The same, asked through somebody.
    #[must_use]
    pub fn through(self, through: Through<'a>) -> Self {
        Self {
            through,
            values: Values::default(),
            ..self
        }
    }

    /// What the same caller would have of another request.
    pub(crate) fn about<'b>(&'b self, info: &'b RequestInfo) -> Facts<'b> {
        Facts::new(self.user, info, self.source_ip, self.now).through(self.through)
    }

    /// The same with what is known of the body.
    #[must_use]
    pub fn with_body(self, body: BodyFact<'a>) -> Self {
        Self {
            body,
            values: Values::default(),
            ..self
        }
    }

    /// Adds the answer of a webhook, for all rules that ask it.
    pub fn answer(&mut self, webhook: Arc<Webhook>, answer: Answer) {
        self.webhooks.answers.push((webhook, answer));
    }

    /// The same, and no webhook is asked: what those without an answer would say is left open.
    #[must_use]
    pub fn without_webhooks(mut self) -> Self {
        self.webhooks.open = true;
        self
    }

    pub(super) fn known(&self, webhook: &Webhook) -> Known<'_> {
        let mut answers = self.webhooks.answers.iter();
        match answers.find(|(asked, _)| asked.name == webhook.name) {
            Some((_, answer)) => Known::Answered(answer),
            None if self.webhooks.open => Known::Open,
            None => Known::Unasked,
        }
    }

    /// The webhooks that failed without that being a refusal, in words.
    pub(super) fn failed_open(&self) -> impl Iterator<Item = String> {
        let answers = self.webhooks.answers.iter();
        answers.filter_map(|(webhook, answer)| match answer {
            Answer::Failed(why) if webhook.failure_policy == FailurePolicy::NoOpinion => {
                Some(webhook.failed_open(why))
            }
            _ => None,
        })
    }

    pub(super) fn object(&self) -> Object<'_> {
        match self.parsed() {
            None if matches!(self.body, BodyFact::Unread) => Object::Unread,
            None => Object::Unknown,
            Some(Err(why)) => Object::Unreadable(why),
            Some(Ok(_)) => Object::Read,
        }
    }

    fn parsed(&self) -> Option<&Result<Parsed, String>> {
        let BodyFact::Read(bytes) = self.body else {
            return None;
        };
        Some(
            self.values
                .object
                .get_or_init(|| Parsed::read(bytes, self.info)),
        )
    }

    fn request(&self) -> Box<dyn Val> {
        let info = self.info;
        let version = info.object.as_ref().map_or("", |o| o.api_version.as_str());
        let mut query: HashMap<String, Vec<String>> = HashMap::new();
        for (key, value) in info.query.pairs() {
            query.entry(key.clone()).or_default().push(value.clone());
        }
        map([
            ("verb", text(&info.verb)),
            ("apiGroup", text(info.api_group())),
            ("apiVersion", text(version)),
            ("resource", text(info.resource())),
            ("subresource", text(info.subresource())),
            ("namespace", text(info.namespace())),
            ("name", text(info.name())),
            ("path", text(&info.path)),
            (
                "query",
                map(query
                    .iter()
                    .map(|(key, values)| (key.as_str(), texts(values)))),
            ),
            (
                "command",
                list(info.query.all("command").map(text).collect()),
            ),
            ("dryRun", Box::new(CelBool::from(info.is_dry_run()))),
            ("labelSelector", text(&info.label_selector)),
            ("fieldSelector", text(&info.field_selector)),
        ])
    }

    fn user(&self) -> Box<dyn Val> {
        let user = self.user;
        let mut groups: Vec<_> = user.groups.iter().map(|group| text(group)).collect();
        if !user.groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(text(AUTHENTICATED));
        }
        let extra = user
            .extra
            .iter()
            .map(|(key, values)| (key.as_str(), texts(values)));
        map([
            ("username", text(&user.username)),
            ("uid", text(user.uid.as_deref().unwrap_or_default())),
            ("groups", list(groups)),
            ("extra", map(extra)),
            ("actor", text(self.through.actor.unwrap_or_default())),
            ("client", text(self.through.client.unwrap_or_default())),
        ])
    }

    fn time(&self) -> Box<dyn Val> {
        // A clock outside of years that exist is no clock; the first second there is stands for it.
        let now = DateTime::<Utc>::from_timestamp_micros(self.now.as_micros()).unwrap_or_default();
        let weekday = match now.weekday() {
            chrono::Weekday::Mon => "Monday",
            chrono::Weekday::Tue => "Tuesday",
            chrono::Weekday::Wed => "Wednesday",
            chrono::Weekday::Thu => "Thursday",
            chrono::Weekday::Fri => "Friday",
            chrono::Weekday::Sat => "Saturday",
            chrono::Weekday::Sun => "Sunday",
        };
        map([
            (
                "now",
                Box::new(CelTimestamp::from(now.fixed_offset())) as Box<dyn Val>,
            ),
            ("hour", Box::new(CelInt::from(i64::from(now.hour())))),
            ("minute", Box::new(CelInt::from(i64::from(now.minute())))),
            ("weekday", text(weekday)),
        ])
    }

    fn source(&self) -> Box<dyn Val> {
        map([("ip", text(&self.source_ip.to_canonical().to_string()))])
    }
}

impl VariableResolver for Facts<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let values = &self.values;
        let value = match variable {
            "request" => values.request.get_or_init(|| self.request()).as_ref(),
            "user" => values.user.get_or_init(|| self.user()).as_ref(),
            "time" => values.time.get_or_init(|| self.time()).as_ref(),
            "source" => values.source.get_or_init(|| self.source()).as_ref(),
            _ => self.parsed()?.as_ref().ok()?.get(variable)?,
        };
        Some(CowVal::Borrowed(value))
    }
}

fn text(text: &str) -> Box<dyn Val> {
    Box::new(CelString::from(text.to_owned()))
}

fn texts(values: &[String]) -> Box<dyn Val> {
    list(values.iter().map(|value| text(value)).collect())
}

fn list(values: Vec<Box<dyn Val>>) -> Box<dyn Val> {
    Box::new(CelList::from(values))
}

fn map<'k>(fields: impl IntoIterator<Item = (&'k str, Box<dyn Val>)>) -> Box<dyn Val> {
    let fields: HashMap<CelMapKey<'static>, Box<dyn Val>> = fields
        .into_iter()
        .map(|(key, value)| (CelMapKey::from(key.to_owned()), value))
        .collect();
    Box::new(CelMap::from(fields))
}
