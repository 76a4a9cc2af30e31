//! Conditions of rules, in CEL (the Common Expression Language that Kubernetes itself uses for admission policies).
//!
//! A condition is parsed and checked when the policy is loaded: unknown variables, fields and functions, and types that
//! cannot fit, are errors of the file. What is left for later are values that only a request brings, such as a field
//! that is not there; such a condition is in doubt, and whoever asks decides what that means.
//!
//! # Bounds
//! A policy is written by people who are trusted, a request's body is not. So expressions are bounded in size, and the
//! work one evaluation can do grows with the size of the body and not with its square: a loop inside a loop over data
//! may only walk what belongs to the element of the outer one. Regular expressions and networks are written out in the
//! policy and compiled when it is loaded.

mod check;
mod network;

use std::sync::{Arc, LazyLock};

use cel::common::ast::IdedExpr;
use cel::common::types::CelBool;
use cel::{Context, Env, ExecutionError, Value};
use regex::Regex;

use self::check::Checker;
use self::network::Network;
use super::facts::{Facts, OBJECT_VARIABLES, Object};

/// The longest expression, in bytes: room for every condition that a person can still read.
const EXPRESSION_BYTES_MAX: usize = 2048;

/// The deepest nesting that the parser follows; the evaluator's stack grows with it.
const PARSER_DEPTH_MAX: u16 = 32;

/// Enough for the deepest nesting that [`EXPRESSION_BYTES_MAX`] leaves room for, in a build without optimization.
const PARSER_STACK_BYTES: usize = 64 * 1024 * 1024;

/// The most of a text from a request that a reason repeats, in characters.
const QUOTED_CHARS_MAX: usize = 60;

/// The standard functions and macros.
static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// One condition, checked.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    text: String,
    expression: Arc<IdedExpr>,
    uses_object: bool,
    patterns: Arc<[Regex]>,
    networks: Arc<[Network]>,
}

/// What a condition says of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Truth {
    Holds,
    Fails,
    /// It asks for the body, which is not read yet.
    NeedsBody,
    /// It asks for the body, and there is none to look at: the question is about a request that nobody sent.
    Open,
    /// It cannot be evaluated, and why. Holds no value of the request.
    Doubt(String),
}

impl Condition {
    /// Parses and checks an expression. The error says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > EXPRESSION_BYTES_MAX {
            return Err(format!(
                "a condition has at most {EXPRESSION_BYTES_MAX} bytes: split it, or make it two rules"
            ));
        }
        if text.trim().is_empty() {
            return Err("a condition is empty".to_owned());
        }
        // The parser goes down once for every bracket and operator, further than the stacks of most threads reach.
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .stack_size(PARSER_STACK_BYTES)
                .spawn_scoped(scope, || Self::parse_here(text))
                .ok()
                .and_then(|parsing| parsing.join().ok())
                .unwrap_or_else(|| Err("it cannot be parsed".to_owned()))
        })
    }

    fn parse_here(text: &str) -> Result<Self, String> {
        let parser = ENV.parser().max_recursion_depth(PARSER_DEPTH_MAX);
        let mut expression = parser.parse(text).map_err(|errors| {
            let first = errors.errors.first();
            let (message, column) =
                first.map_or(("it cannot be parsed", 0), |e| (e.msg.as_str(), e.pos.1));
            let message: String = message.chars().take(120).collect();
            format!("column {column}: {message}")
        })?;
        let mut checker = Checker::default();
        checker.condition(&mut expression)?;
        Ok(Self {
            text: text.to_owned(),
            expression: Arc::new(expression),
            uses_object: checker.uses_object,
            patterns: checker.patterns.into(),
            networks: checker.networks.into(),
        })
    }

    /// As written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it asks for the body.
    pub(super) fn uses_object(&self) -> bool {
        self.uses_object
    }

    /// Evaluates it.
    pub(super) fn truth(&self, facts: &Facts<'_>) -> Truth {
        if self.uses_object {
            match facts.object() {
                Object::Unread => return Truth::NeedsBody,
                Object::Unknown => return Truth::Open,
                Object::Unreadable(why) => return Truth::Doubt(why.to_owned()),
                Object::Read => {}
            }
        }
        let mut context = Context::with_env(Arc::clone(&ENV));
        context.set_variable_resolver(facts);
        self.add_functions(&mut context);
        match Value::resolve_val(&self.expression, &context) {
            Ok(value) => match value.as_ref().downcast_ref::<CelBool>() {
                Some(value) if *value.inner() => Truth::Holds,
                Some(_) => Truth::Fails,
                None => Truth::Doubt("it is neither true nor false".to_owned()),
            },
            Err(error) => Truth::Doubt(self.reason(&error)),
        }
    }

    fn add_functions(&self, context: &mut Context<'_, '_>) {
        let index = |i: i64| usize::try_from(i).unwrap_or(usize::MAX);
        if !self.patterns.is_empty() {
            let patterns = Arc::clone(&self.patterns);
            let matches = move |text: Arc<String>, i: i64| {
                patterns.get(index(i)).is_some_and(|p| p.is_match(&text))
            };
            context
                .add_function(check::MATCHES, matches)
                .expect("no standard function has this name");
        }
        if !self.networks.is_empty() {
            let networks = Arc::clone(&self.networks);
            let contains = move |text: Arc<String>, i: i64| -> Result<bool, ExecutionError> {
                let ip = text
                    .parse()
                    .map_err(|_| ExecutionError::function_error("containsIP", "no address"))?;
                Ok(networks.get(index(i)).is_some_and(|n| n.contains(ip)))
            };
            context
                .add_function(check::CONTAINS_IP, contains)
                .expect("no standard function has this name");
        }
    }

    /// Why it could not be evaluated. The evaluator's own messages quote values, which may be secrets; names of fields
    /// are quoted only when the condition itself has them.
    fn reason(&self, error: &ExecutionError) -> String {
        match error {
            ExecutionError::NoSuchKey(key) if self.text.contains(key.as_str()) => {
                let key: String = key.chars().take(QUOTED_CHARS_MAX).collect();
                format!("there is no field \"{key}\"")
            }
            ExecutionError::NoSuchKey(_) => "there is no such field".to_owned(),
            ExecutionError::IndexOutOfBounds(_) => "a list is shorter than that".to_owned(),
            ExecutionError::DivisionByZero(_)
            | ExecutionError::RemainderByZero(_)
            | ExecutionError::Overflow(..) => "a number does not fit".to_owned(),
            ExecutionError::FunctionError { function, .. } => {
                format!("{function}() does not take that value")
            }
            _ => "a value is of another type than the condition expects".to_owned(),
        }
    }
}

/// Whether a name is a variable that takes the body to be read.
fn is_object_variable(name: &str) -> bool {
    OBJECT_VARIABLES.contains(&name)
}
