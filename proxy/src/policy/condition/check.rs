//! Checks a parsed condition: names, functions, types as far as they are known, and what its loops may walk.
//!
//! Calls whose second half must be known when the policy is loaded are rewritten on the way: `x.matches('…')` and
//! `cidr('…').containsIP(x)` become calls of [`MATCHES`] and [`CONTAINS_IP`] with the number of what was compiled.

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators,
};
use cel::common::types::CelInt;
use regex::Regex;

use super::network::Network;
use super::{ENV, is_object_variable};
use crate::yaml::suggestion;

/// Stands for `matches` with a compiled pattern.
pub(super) const MATCHES: &str = "@matches";

/// Stands for `containsIP` with a parsed network.
pub(super) const CONTAINS_IP: &str = "@containsIP";

/// How deep an expression may be nested.
const DEPTH_MAX: usize = 48;

/// How many loops may be inside each other.
const LOOPS_MAX: usize = 3;

/// What is known of a value before there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bool,
    Number,
    Text,
    List,
    Map,
    Time,
    Duration,
    Optional,
    Null,
    /// Only the request says.
    Any,
}

/// Names and kinds of fields; none where only the request says which there are.
type Fields = &'static [(&'static str, Kind)];

/// The variables, and the fields of those that have a fixed set.
const VARIABLES: [(&str, Kind, Fields); 7] = [
    (
        "request",
        Kind::Map,
        &[
            ("verb", Kind::Text),
            ("apiGroup", Kind::Text),
            ("apiVersion", Kind::Text),
            ("resource", Kind::Text),
            ("subresource", Kind::Text),
            ("namespace", Kind::Text),
            ("name", Kind::Text),
            ("path", Kind::Text),
            ("query", Kind::Map),
            ("command", Kind::List),
            ("dryRun", Kind::Bool),
            ("labelSelector", Kind::Text),
            ("fieldSelector", Kind::Text),
        ],
    ),
    (
        "user",
        Kind::Map,
        &[
            ("username", Kind::Text),
            ("uid", Kind::Text),
            ("groups", Kind::List),
            ("extra", Kind::Map),
            ("actor", Kind::Text),
            ("client", Kind::Text),
        ],
    ),
    (
        "time",
        Kind::Map,
        &[
            ("now", Kind::Time),
            ("hour", Kind::Number),
            ("minute", Kind::Number),
            ("weekday", Kind::Text),
        ],
    ),
    ("source", Kind::Map, &[("ip", Kind::Text)]),
    ("object", Kind::Map, &[]),
    ("podSpecs", Kind::List, &[]),
    ("containers", Kind::List, &[]),
];

/// Functions that take their subject as an argument: name, what comes out.
const FUNCTIONS: [(&str, Kind); 8] = [
    ("size", Kind::Number),
    ("int", Kind::Number),
    ("uint", Kind::Number),
    ("double", Kind::Number),
    ("string", Kind::Text),
    ("bool", Kind::Bool),
    ("timestamp", Kind::Time),
    ("duration", Kind::Duration),
];

/// Functions that are called on their subject: name, least and most arguments, what they may be called on (`Any` for
/// several), what comes out.
const METHODS: [(&str, usize, usize, Kind, Kind); 18] = [
    ("size", 0, 0, Kind::Any, Kind::Number),
    ("contains", 1, 1, Kind::Text, Kind::Bool),
    ("startsWith", 1, 1, Kind::Text, Kind::Bool),
    ("endsWith", 1, 1, Kind::Text, Kind::Bool),
    ("orValue", 1, 1, Kind::Optional, Kind::Any),
    ("or", 1, 1, Kind::Optional, Kind::Optional),
    ("hasValue", 0, 0, Kind::Optional, Kind::Bool),
    ("value", 0, 0, Kind::Optional, Kind::Any),
    ("getFullYear", 0, 1, Kind::Time, Kind::Number),
    ("getMonth", 0, 1, Kind::Time, Kind::Number),
    ("getDate", 0, 1, Kind::Time, Kind::Number),
    ("getDayOfMonth", 0, 1, Kind::Time, Kind::Number),
    ("getDayOfWeek", 0, 1, Kind::Time, Kind::Number),
    ("getDayOfYear", 0, 1, Kind::Time, Kind::Number),
    ("getHours", 0, 1, Kind::Any, Kind::Number),
    ("getMinutes", 0, 1, Kind::Any, Kind::Number),
    ("getSeconds", 0, 1, Kind::Any, Kind::Number),
    ("getMilliseconds", 0, 1, Kind::Any, Kind::Number),
];

/// A variable of a macro.
#[derive(Debug)]
struct Local {
    name: String,
    kind: Kind,
    /// It stands for the elements of something that comes with the request.
    over_data: bool,
}

/// Walks one condition.
#[derive(Debug, Default)]
pub(super) struct Checker {
    pub(super) uses_object: bool,
    pub(super) patterns: Vec<Regex>,
    pub(super) networks: Vec<Network>,
    locals: Vec<Local>,
    depth: usize,
    loops: usize,
}

impl Checker {
    /// Checks a whole condition, which must be true or false.
    pub(super) fn condition(&mut self, expression: &mut IdedExpr) -> Result<(), String> {
        match self.check(expression)? {
            Kind::Bool | Kind::Any => Ok(()),
            kind => Err(format!(
                "a condition must be true or false, this is {}",
                kind.words()
            )),
        }
    }

    fn check(&mut self, expression: &mut IdedExpr) -> Result<Kind, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("it is nested deeper than {DEPTH_MAX}"));
        }
        let kind = match &mut expression.expr {
            Expr::Literal(literal) => Ok(of_literal(literal)),
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => if let Expr::Ident(name) = &select.operand.expr
                && !self.is_local(name)
            {
                known_field(name, &select.field)?
                    .map_or_else(|| self.check(&mut select.operand), Ok)
            } else {
                self.operand(&mut select.operand, Kind::Map)
                    .map(|_| Kind::Any)
            }
            .map(|kind| match (select.test, kind) {
                (true, _) => Kind::Bool,
                (false, Kind::Map) if !is_fixed(&select.operand) => Kind::Any,
                (false, kind) => kind,
            }),
            Expr::List(list) => {
                for element in &mut list.elements {
                    self.check(element)?;
                }
                Ok(Kind::List)
            }
            Expr::Map(map) => {
                for entry in &mut map.entries {
                    if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                        self.check(&mut entry.key)?;
                        self.check(&mut entry.value)?;
                    }
                }
                Ok(Kind::Map)
            }
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::Call(call) => self.call(call),
            Expr::Struct(_) | Expr::Unspecified => {
                Err("messages cannot be built in a condition".to_owned())
            }
        };
        self.depth -= 1;
        kind
    }

    fn name(&mut self, name: &str) -> Result<Kind, String> {
        if let Some(local) = self.locals.iter().rev().find(|local| local.name == name) {
            return Ok(local.kind);
        }
        let known = VARIABLES.iter().find(|(known, ..)| *known == name);
        let Some((_, kind, _)) = known else {
            let meant = suggestion(name, VARIABLES.iter().map(|(known, ..)| *known));
            return Err(format!("there is no variable \"{name}\": {meant}"));
        };
        self.uses_object |= is_object_variable(name);
        Ok(*kind)
    }

    fn is_local(&self, name: &str) -> bool {
        self.locals.iter().any(|local| local.name == name)
    }

    /// Checks an operand that has to be of this kind, so far as that is known.
    fn operand(&mut self, expression: &mut IdedExpr, kind: Kind) -> Result<Kind, String> {
        let found = self.check(expression)?;
        let chained = found == Kind::Optional && kind == Kind::Map;
        if found == kind || found == Kind::Any || kind == Kind::Any || chained {
            return Ok(found);
        }
        Err(format!(
            "{} is used where {} is needed",
            found.words(),
            kind.words()
        ))
    }

    fn call(&mut self, call: &mut CallExpr) -> Result<Kind, String> {
        match call.func_name.as_str() {
            operators::LOGICAL_AND | operators::LOGICAL_OR | operators::LOGICAL_NOT => {
                for arg in &mut call.args {
                    self.operand(arg, Kind::Bool)?;
                }
                Ok(Kind::Bool)
            }
            operators::CONDITIONAL => self.conditional(&mut call.args),
            operators::EQUALS
            | operators::NOT_EQUALS
            | operators::LESS
            | operators::LESS_EQUALS
            | operators::GREATER
            | operators::GREATER_EQUALS => self.comparison(&mut call.args),
            operators::IN => self.membership(&mut call.args),
            operators::ADD
            | operators::SUBSTRACT
            | operators::MULTIPLY
            | operators::DIVIDE
            | operators::MODULO
            | operators::NEGATE => self.arithmetic(&mut call.args),
            operators::INDEX => self.all(&mut call.args).map(|()| Kind::Any),
            operators::OPT_INDEX => self.all(&mut call.args).map(|()| Kind::Optional),
            operators::OPT_SELECT => self.optional_field(&mut call.args),
            operators::NOT_STRICTLY_FALSE => self.all(&mut call.args).map(|()| Kind::Bool),
            "matches" => self.matches(call),
            "containsIP" => self.contains_ip(call),
            _ => self.function(call),
        }
    }

    fn all(&mut self, args: &mut [IdedExpr]) -> Result<(), String> {
        for arg in args {
            self.check(arg)?;
        }
        Ok(())
    }

    fn conditional(&mut self, args: &mut [IdedExpr]) -> Result<Kind, String> {
        let [condition, yes, no] = args else {
            return Err("a choice has three parts".to_owned());
        };
        self.operand(condition, Kind::Bool)?;
        let (yes, no) = (self.check(yes)?, self.check(no)?);
        Ok(if yes == no { yes } else { Kind::Any })
    }

    fn comparison(&mut self, args: &mut [IdedExpr]) -> Result<Kind, String> {
        let [left, right] = args else {
            return Err("a comparison has two sides".to_owned());
        };
        let (left, right) = (self.check(left)?, self.check(right)?);
        let open = |kind| matches!(kind, Kind::Any | Kind::Null);
        if left == right || open(left) || open(right) {
            return Ok(Kind::Bool);
        }
        Err(format!(
            "{} is compared with {}",
            left.words(),
            right.words()
        ))
    }

    fn membership(&mut self, args: &mut [IdedExpr]) -> Result<Kind, String> {
        let [element, container] = args else {
            return Err("\"in\" has two sides".to_owned());
        };
        self.check(element)?;
        match self.check(container)? {
            Kind::List | Kind::Map | Kind::Any => Ok(Kind::Bool),
            kind => Err(format!(
                "\"in\" looks into a list or a map, not into {}",
                kind.words()
            )),
        }
    }

    fn arithmetic(&mut self, args: &mut [IdedExpr]) -> Result<Kind, String> {
        let mut kinds = Vec::with_capacity(2);
        for arg in args {
            kinds.push(self.check(arg)?);
        }
        if let Some(kind) = kinds
            .iter()
            .find(|kind| matches!(kind, Kind::Bool | Kind::Optional | Kind::Null | Kind::Map))
        {
            return Err(format!("{} cannot be calculated with", kind.words()));
        }
        Ok(match kinds.as_slice() {
            [one] => *one,
            [left, right] if left == right && *left != Kind::Time => *left,
            _ => Kind::Any,
        })
    }

    fn optional_field(&mut self, args: &mut [IdedExpr]) -> Result<Kind, String> {
        let Some(operand) = args.first_mut() else {
            return Err("\".?\" needs a subject".to_owned());
        };
        self.operand(operand, Kind::Map)?;
        Ok(Kind::Optional)
    }

    /// `x.matches('…')`
    fn matches(&mut self, call: &mut CallExpr) -> Result<Kind, String> {
        let (Some(mut target), [pattern]) = (call.target.take(), call.args.as_mut_slice()) else {
            return Err("write TEXT.matches('PATTERN')".to_owned());
        };
        let Some(pattern) = text_of(pattern) else {
            return Err("the pattern of matches() must be written out, as in 'web-[0-9]+'".into());
        };
        let pattern = Regex::new(pattern)
            .map_err(|_| "the pattern of matches() is no regular expression".to_owned())?;
        self.operand(&mut target, Kind::Text)?;
        rewrite(call, MATCHES, *target, self.patterns.len());
        self.patterns.push(pattern);
        Ok(Kind::Bool)
    }

    /// `cidr('…').containsIP(x)`, as in the API server.
    fn contains_ip(&mut self, call: &mut CallExpr) -> Result<Kind, String> {
        let shape = || "write cidr('10.0.0.0/8').containsIP(source.ip)".to_owned();
        let Some(target) = call.target.take() else {
            return Err(shape());
        };
        let (Expr::Call(cidr), Some(mut address)) = (&target.expr, call.args.pop()) else {
            return Err(shape());
        };
        let (true, [network]) = (cidr.func_name == "cidr", cidr.args.as_slice()) else {
            return Err(shape());
        };
        let network = text_of(network).ok_or_else(shape)?;
        let network = Network::parse(network)
            .ok_or_else(|| format!("\"{network}\" is no network such as 10.0.0.0/8"))?;
        self.operand(&mut address, Kind::Text)?;
        rewrite(call, CONTAINS_IP, address, self.networks.len());
        self.networks.push(network);
        Ok(Kind::Bool)
    }

    fn function(&mut self, call: &mut CallExpr) -> Result<Kind, String> {
        let name = call.func_name.clone();
        let count = call.args.len();
        let Some(target) = &mut call.target else {
            let Some((_, kind)) = FUNCTIONS.iter().find(|(known, _)| *known == name) else {
                let meant = suggestion(&name, function_names());
                return Err(format!("there is no function {name}(): {meant}"));
            };
            if count != 1 {
                return Err(format!("{name}() takes one value"));
            }
            self.all(&mut call.args)?;
            return Ok(*kind);
        };
        let known = METHODS.iter().find(|(known, ..)| *known == name);
        let Some((_, least, most, subject, kind)) = known else {
            let meant = suggestion(&name, function_names());
            return Err(format!("there is no function {name}(): {meant}"));
        };
        if count < *least || count > *most {
            return Err(format!("{name}() takes {most} value(s) after its subject"));
        }
        self.operand(target, *subject)?;
        for arg in &mut call.args {
            if *subject == Kind::Text {
                self.operand(arg, Kind::Text)?;
            } else {
                self.check(arg)?;
            }
        }
        if name.starts_with("get")
            && let Some(zone) = call.args.first()
        {
            check_zone(zone)?;
        }
        Ok(*kind)
    }

    fn comprehension(&mut self, comprehension: &mut ComprehensionExpr) -> Result<Kind, String> {
        let range = self.check(&mut comprehension.iter_range)?;
        if !matches!(range, Kind::List | Kind::Map | Kind::Any) {
            return Err(format!("there is no loop over {}", range.words()));
        }
        let over_data = !matches!(&comprehension.iter_range.expr, Expr::List(_));
        if over_data {
            self.check_range(&comprehension.iter_range)?;
        }
        let init = self.check(&mut comprehension.accu_init)?;
        self.loops += 1;
        if self.loops > LOOPS_MAX {
            return Err(format!("more than {LOOPS_MAX} loops are inside each other"));
        }
        let before = self.locals.len();
        self.locals.push(Local {
            name: comprehension.accu_var.clone(),
            kind: Kind::Any,
            over_data: false,
        });
        self.check(&mut comprehension.result)?;
        self.check(&mut comprehension.loop_cond)?;
        let name = comprehension.iter_var.clone();
        self.locals.push(Local {
            name,
            kind: Kind::Any,
            over_data,
        });
        self.check(&mut comprehension.loop_step)?;
        self.locals.truncate(before);
        self.loops -= 1;
        Ok(match init {
            // all, exists; exists_one counts.
            Kind::Bool | Kind::Number => Kind::Bool,
            // map, filter
            Kind::List if comprehension.accu_var == "@result" => Kind::List,
            // optMap
            _ => Kind::Any,
        })
    }

    /// A loop inside another walks what belongs to the other's element, so that all of them together walk the body once.
    fn check_range(&self, range: &IdedExpr) -> Result<(), String> {
        let Some(innermost) = self.locals.iter().rposition(|local| local.over_data) else {
            return Ok(());
        };
        let references = range.references();
        let is_outer = |name: &str| {
            let place = self.locals.iter().rposition(|local| local.name == name);
            match place {
                None => true,
                Some(place) => place != innermost,
            }
        };
        match references.variables().into_iter().find(|n| is_outer(n)) {
            None => Ok(()),
            Some(name) => Err(format!(
                "a loop inside the loop over \"{}\" may only walk what belongs to it, not \"{name}\": the work would \
                 grow with the square of the body",
                self.locals[innermost].name
            )),
        }
    }
}

impl Kind {
    fn words(self) -> &'static str {
        match self {
            Self::Bool => "a yes or no",
            Self::Number => "a number",
            Self::Text => "a text",
            Self::List => "a list",
            Self::Map => "a map",
            Self::Time => "a time",
            Self::Duration => "a duration",
            Self::Optional => "a value that may be missing (add .orValue(…))",
            Self::Null => "null",
            Self::Any => "a value",
        }
    }
}

fn function_names() -> impl Iterator<Item = &'static str> + Clone {
    let methods = METHODS.iter().map(|(name, ..)| *name);
    let functions = FUNCTIONS.iter().map(|(name, _)| *name);
    let macros = ["has", "all", "exists", "exists_one", "map", "filter"];
    let rewritten = ["matches", "cidr"];
    // Sizes and macros first: that is how the list reads best.
    macros
        .into_iter()
        .chain(rewritten)
        .chain(methods)
        .chain(functions.skip(1))
}

/// The kind of a field of a variable with a fixed set; nothing for other variables.
fn known_field(variable: &str, field: &str) -> Result<Option<Kind>, String> {
    let known = VARIABLES.iter().find(|(name, ..)| *name == variable);
    let Some((_, _, fields)) = known.filter(|(_, _, fields)| !fields.is_empty()) else {
        return Ok(None);
    };
    match fields.iter().find(|(name, _)| *name == field) {
        Some((_, kind)) => Ok(Some(*kind)),
        None => {
            let meant = suggestion(field, fields.iter().map(|(name, _)| *name));
            Err(format!("\"{variable}\" has no field \"{field}\": {meant}"))
        }
    }
}

/// Whether this is a variable whose fields are known.
fn is_fixed(operand: &IdedExpr) -> bool {
    matches!(&operand.expr, Expr::Ident(name)
        if VARIABLES.iter().any(|(known, _, fields)| known == name && !fields.is_empty()))
}

fn of_literal(literal: &LiteralValue) -> Kind {
    match literal {
        LiteralValue::Boolean(_) => Kind::Bool,
        LiteralValue::String(_) | LiteralValue::Bytes(_) => Kind::Text,
        LiteralValue::Double(_) | LiteralValue::Int(_) | LiteralValue::UInt(_) => Kind::Number,
        LiteralValue::Null => Kind::Null,
    }
}

fn text_of(expression: &IdedExpr) -> Option<&str> {
    match &expression.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

/// Makes a call one of `function` with a subject and the number of something compiled.
fn rewrite(call: &mut CallExpr, function: &str, subject: IdedExpr, number: usize) {
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    let id = subject.id;
    let number = IdedExpr {
        id,
        expr: Expr::Literal(LiteralValue::Int(CelInt::from(number))),
    };
    *call = CallExpr {
        func_name: function.to_owned(),
        target: None,
        args: vec![subject, number],
    };
}

/// A time zone must be one that the library knows, which only using it can tell.
fn check_zone(zone: &IdedExpr) -> Result<(), String> {
    let Some(name) = text_of(zone) else {
        return Err("a time zone must be written out, as in 'Europe/Berlin'".to_owned());
    };
    let probe = "timestamp('2026-01-01T00:00:00Z').getHours(zone)";
    let known = ENV.compile(probe).is_ok_and(|program| {
        let mut context = cel::Context::with_env(std::sync::Arc::clone(&ENV));
        context.add_variable_from_value("zone", name);
        program.execute(&context).is_ok()
    });
    if known {
        Ok(())
    } else {
        Err(format!(
            "\"{name}\" is no time zone such as 'Europe/Berlin'"
        ))
    }
}
