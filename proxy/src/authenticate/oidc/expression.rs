//! CEL expressions over the claims of a token and the user made from them.
//!
//! Checked when the configuration is read: syntax, the variables that are there, the functions that are there. The
//! interpreter has no types before it runs; that an expression gives a text or a truth shows at the first token.
//!
//! # Bounds
//! Who writes expressions is trusted not to be hostile, whoever gets a token issued is not. What an evaluation costs
//! grows with the token, so:
//! - a token is at most 16 KiB ([`super::token`]), an expression [`BYTES_MAX`] long and [`DEPTH_MAX`] deep;
//! - `all`, `exists`, `exists_one`, `map` and `filter` do not stand inside one another: one pass over the claims, not
//!   the square of it;
//! - only the functions of [`FUNCTIONS`] are there; `replace` and `join`, which can make a text longer by a factor,
//!   take literals of at most [`LITERAL_BYTES_MAX`] bytes, and [`LENGTHENING_MAX`] of them are the most;
//! - `matches` is of linear time in text and pattern.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue};
use cel::objects::{Key, Map};
use cel::{Context, Env, Program, Value};

use crate::yaml::suggestion;

/// The longest expression.
const BYTES_MAX: usize = 2048;

/// The most levels of an expression, since its evaluation recurses.
const DEPTH_MAX: usize = 48;

/// The parser recurses many times for every bracket: it gets so many brackets at most, and a stack for them.
const BRACKETS_MAX: usize = 200;
const PARSER_STACK_BYTES: usize = 64 << 20;

/// The most uses of functions that can lengthen a text by a factor, and the longest literal that they take.
const LENGTHENING_MAX: usize = 3;
const LITERAL_BYTES_MAX: usize = 16;

/// Every function that expressions may use.
const FUNCTIONS: [&str; 28] = [
    "bool",
    "charAt",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "hasValue",
    "indexOf",
    "int",
    "join",
    "lastIndexOf",
    "lowerAscii",
    "matches",
    "or",
    "orValue",
    "replace",
    "size",
    "split",
    "startsWith",
    "string",
    "substring",
    "trim",
    "type",
    "uint",
    "upperAscii",
    "value",
    // What the parser makes of `in` and of `all`.
    "@in",
    "@not_strictly_false",
];

/// Names that are types, for comparison with `type(x)`.
const TYPES: [&str; 10] = [
    "bool",
    "bytes",
    "double",
    "dyn",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "uint",
];

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut environment = Env::stdlib();
    environment
        .add_extension(cel::extensions::strings)
        .expect("the string functions are not in the standard library");
    Arc::new(environment)
});

/// An expression that was compiled and checked.
pub(super) struct Expression {
    program: Program,
    text: String,
}

/// The values of the variables.
pub(super) type Variables<'a> = [(&'static str, &'a Value)];

/// What the check keeps track of.
struct Check<'a> {
    variables: &'a [&'static str],
    /// Names that the comprehensions around this place introduce.
    local: Vec<&'a str>,
    lengthening: usize,
}

impl Expression {
    /// Compiles a text that may read these variables. The error completes the sentence "the expression …".
    pub(super) fn compile(text: &str, variables: &[&'static str]) -> Result<Self, String> {
        if text.len() > BYTES_MAX {
            return Err(format!("is longer than {BYTES_MAX} bytes"));
        }
        let open = |c: &char| matches!(c, '(' | '[' | '{');
        if text.chars().filter(open).count() > BRACKETS_MAX {
            return Err("has too many brackets".into());
        }
        let parser = std::thread::Builder::new().stack_size(PARSER_STACK_BYTES);
        let program = std::thread::scope(|scope| {
            let compiling = parser.spawn_scoped(scope, || compile(text, variables));
            let compiled = compiling.map(std::thread::ScopedJoinHandle::join);
            match compiled {
                Ok(Ok(program)) => program,
                Ok(Err(_)) | Err(_) => Err("cannot be compiled".to_owned()),
            }
        });
        Ok(Self {
            program: program?,
            text: text.to_owned(),
        })
    }

    /// As written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Its value. The error names no values: it is shown to whoever sent the token, and recorded.
    pub(super) fn evaluate(&self, variables: &Variables<'_>) -> Result<Value, String> {
        let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
        for (name, value) in variables {
            context.add_variable_from_value(*name, (*value).clone());
        }
        let result = catch_unwind(AssertUnwindSafe(|| self.program.execute(&context)));
        match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(cel::ExecutionError::NoSuchKey(key))) => {
                Err(format!("{:?} needs {key:?}, which is not there", self.text))
            }
            Ok(Err(_)) | Err(_) => Err(format!("{:?} cannot be evaluated", self.text)),
        }
    }

    /// Whether it reads `variable.field`.
    pub(super) fn reads(&self, variable: &str, field: &str) -> bool {
        let mut found = false;
        visit(self.program.expression(), &mut |expression| {
            let (operand, name) = match expression {
                Expr::Select(select) => (&select.operand.expr, Some(select.field.as_str())),
                Expr::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
                    ("_[_]" | "_?._" | "_[?_]", [operand, index]) => {
                        (&operand.expr, literal(&index.expr))
                    }
                    _ => return,
                },
                _ => return,
            };
            found |=
                name == Some(field) && matches!(operand, Expr::Ident(name) if name == variable);
        });
        found
    }
}

impl std::fmt::Debug for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Expression({:?})", self.text)
    }
}

fn compile(text: &str, variables: &[&'static str]) -> Result<Program, String> {
    let program = ENVIRONMENT.compile(text).map_err(|errors| {
        let first = errors.errors.first().map(|error| error.msg.clone());
        format!("is no CEL: {}", first.unwrap_or_default())
    })?;
    let mut check = Check {
        variables,
        local: Vec::new(),
        lengthening: 0,
    };
    check.expression(program.expression(), 0)?;
    Ok(program)
}

impl<'a> Check<'a> {
    fn expression(&mut self, expression: &'a IdedExpr, depth: usize) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err("is nested too deeply".into());
        }
        match &expression.expr {
            Expr::Ident(name) => return self.name(name),
            Expr::Call(call) => self.function(&call.func_name, &call.args)?,
            Expr::Struct(_) => return Err("makes an object, which is not possible here".into()),
            Expr::Comprehension(comprehension) => {
                self.expression(&comprehension.iter_range, depth + 1)?;
                if !self.local.is_empty() {
                    return Err(
                        "has one of all, exists, exists_one, map and filter inside another; the cost of that is not \
                         bounded"
                            .into(),
                    );
                }
                self.local.push(&comprehension.iter_var);
                self.local.extend(comprehension.iter_var2.as_deref());
                self.local.push(&comprehension.accu_var);
                for part in [
                    &comprehension.accu_init,
                    &comprehension.loop_cond,
                    &comprehension.loop_step,
                    &comprehension.result,
                ] {
                    self.expression(part, depth + 1)?;
                }
                self.local.clear();
                return Ok(());
            }
            _ => {}
        }
        let mut children = Vec::new();
        parts(&expression.expr, &mut children);
        children
            .into_iter()
            .try_for_each(|child| self.expression(child, depth + 1))
    }

    fn name(&self, name: &str) -> Result<(), String> {
        let known =
            self.variables.contains(&name) || self.local.contains(&name) || TYPES.contains(&name);
        if known {
            return Ok(());
        }
        let meant = suggestion(name, self.variables.iter().copied());
        Err(format!("reads {name:?}, which is not there: {meant}"))
    }

    fn function(&mut self, name: &str, arguments: &[IdedExpr]) -> Result<(), String> {
        // Operators are named so that nobody can write them as a call.
        let operator = name.contains('_') && !name.starts_with(|c: char| c.is_ascii_alphabetic());
        if !operator && !FUNCTIONS.contains(&name) {
            let words = FUNCTIONS
                .iter()
                .copied()
                .filter(|word| !word.starts_with('@'));
            let meant = suggestion(name, words);
            return Err(format!("uses {name:?}, which is not there: {meant}"));
        }
        if !matches!(name, "replace" | "join") {
            return Ok(());
        }
        self.lengthening += 1;
        if self.lengthening > LENGTHENING_MAX {
            return Err(format!(
                "uses replace and join more than {LENGTHENING_MAX} times"
            ));
        }
        let fits = |argument: &IdedExpr| match literal(&argument.expr) {
            Some(text) => text.len() <= LITERAL_BYTES_MAX,
            None => matches!(&argument.expr, Expr::Literal(LiteralValue::Int(_))),
        };
        if arguments.iter().all(fits) {
            return Ok(());
        }
        Err(format!(
            "uses {name} with something other than texts in quotes of at most {LITERAL_BYTES_MAX} bytes; the cost of \
             that is not bounded"
        ))
    }
}

/// A JSON value as CEL sees it: whole numbers are `int`, as in the API server.
pub(super) fn value(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(truth) => Value::Bool(*truth),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(whole) => Value::Int(whole),
            None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(string) => text(string),
        serde_json::Value::Array(items) => Value::List(Arc::new(items.iter().map(value).collect())),
        serde_json::Value::Object(fields) => map(fields
            .iter()
            .map(|(name, field)| (name.as_str(), value(field)))),
    }
}

/// A CEL map.
pub(super) fn map<'a>(fields: impl Iterator<Item = (&'a str, Value)>) -> Value {
    let map: HashMap<Key, Value> = fields
        .map(|(name, value)| (Key::String(Arc::new(name.to_owned())), value))
        .collect();
    Value::Map(Map { map: Arc::new(map) })
}

/// A CEL string.
pub(super) fn text(text: &str) -> Value {
    Value::String(Arc::new(text.to_owned()))
}

fn literal(expression: &Expr) -> Option<&str> {
    match expression {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

/// The expressions directly inside one.
fn parts<'a>(expression: &'a Expr, found: &mut Vec<&'a IdedExpr>) {
    let mut entries = |entries: &'a [cel::common::ast::IdedEntryExpr]| {
        for entry in entries {
            match &entry.expr {
                EntryExpr::StructField(field) => found.push(&field.value),
                EntryExpr::MapEntry(entry) => found.extend([&entry.key, &entry.value]),
            }
        }
    };
    match expression {
        Expr::Map(map) => entries(&map.entries),
        Expr::Struct(made) => entries(&made.entries),
        Expr::Call(call) => {
            found.extend(call.target.as_deref());
            found.extend(&call.args);
        }
        Expr::List(list) => found.extend(&list.elements),
        Expr::Select(select) => found.push(&select.operand),
        Expr::Comprehension(comprehension) => found.extend([
            &comprehension.iter_range,
            &comprehension.accu_init,
            &comprehension.loop_cond,
            &comprehension.loop_step,
            &comprehension.result,
        ]),
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => {}
    }
}

/// Calls `look` on an expression and all in it.
fn visit<'a>(expression: &'a IdedExpr, look: &mut impl FnMut(&'a Expr)) {
    look(&expression.expr);
    let mut inside = Vec::new();
    parts(&expression.expr, &mut inside);
    for part in inside {
        visit(part, look);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn evaluate(text: &str) -> Result<Value, String> {
        let claims = json!({
            "sub": "Alice", "email": "alice@example.com", "email_verified": true, "n": 5, "half": 0.5,
            "groups": ["/dev", "/ops"], "roles": "a,b", "realm": {"roles": ["x"]}, "nothing": null,
        });
        Expression::compile(text, &["claims"])?.evaluate(&[("claims", &value(&claims))])
    }

    fn is_true(text: &str) {
        assert_eq!(evaluate(text), Ok(Value::Bool(true)), "{text}");
    }

    #[test]
    fn the_expressions_of_the_kubernetes_documentation_work() {
        for expression in [
            "claims.email.endsWith('@example.com')",
            "claims.sub.lowerAscii() + ':x' == 'alice:x'",
            "claims.groups.all(g, g.startsWith('/'))",
            "claims.groups.map(g, 'p:' + g.replace('/', '')) == ['p:dev', 'p:ops']",
            "claims.roles.split(',') == ['a', 'b']",
            "claims.?email_verified.orValue(true) == true",
            "claims.?missing.orValue('none') == 'none'",
            "has(claims.realm.roles) && 'x' in claims.realm.roles",
            "!has(claims.missing)",
            "claims.n + 1 == 6 && claims.n < 10",
            "claims.half < 1.0",
            "claims.nothing == null",
            "type(claims.groups) == list",
            "claims['sub'].matches('^[A-Z]')",
            "claims.groups.exists(g, g == '/ops') ? true : false",
        ] {
            is_true(expression);
        }
    }

    #[test]
    fn mistakes_show_when_the_configuration_is_read() {
        let wrong = |text: &str| Expression::compile(text, &["claims"]).unwrap_err();
        assert!(
            wrong("claims.").contains("is no CEL"),
            "{}",
            wrong("claims.")
        );
        assert!(wrong("claim.sub").contains("did you mean \"claims\"?"));
        assert!(wrong("user.username == ''").contains("reads \"user\""));
        assert!(wrong("claims.sub.startWith('a')").contains("did you mean \"startsWith\"?"));
        assert!(wrong("claims.a.all(x, claims.b.all(y, x == y))").contains("inside another"));
        assert!(wrong("claims.sub.replace('', claims.sub)").contains("not bounded"));
        assert!(wrong("claims.a.join(claims.sub)").contains("not bounded"));
        let often = "claims.sub.replace('a', 'b')".to_owned() + &".replace('a', 'b')".repeat(3);
        assert!(wrong(&often).contains("more than 3 times"));
        assert!(wrong(&format!("claims.{}", "a".repeat(3000))).contains("longer than"));
        for bomb in [
            "(".repeat(1000),
            "[".repeat(900),
            "!".repeat(2000),
            "a.b".repeat(600),
            "-".repeat(2000),
        ] {
            assert!(Expression::compile(&bomb, &["claims"]).is_err());
        }
        assert!(wrong(&("[".repeat(60) + &"]".repeat(60))).contains("nested"));
        assert!(!wrong(&("(".repeat(150) + "claims" + &")".repeat(150))).is_empty());
        let sums = vec!["claims.n"; 180].join("+");
        assert!(Expression::compile(&sums, &["claims"]).is_ok() || wrong(&sums).contains("nested"));
    }

    #[test]
    fn what_cannot_be_evaluated_is_an_error_without_values() {
        for expression in [
            "claims.missing",
            "claims.sub + 1",
            "claims.groups[9]",
            "1 / 0",
            "'a'.substring(9)",
        ] {
            let why = evaluate(expression).unwrap_err();
            assert!(why.contains(&format!("{expression:?}")), "{why}");
            assert!(!why.contains("Alice"), "{why}");
        }
    }

    #[test]
    fn reading_a_claim_is_seen_in_every_spelling() {
        let reads = |text: &str| {
            let expression = Expression::compile(text, &["claims"]).unwrap();
            expression.reads("claims", "email")
        };
        for text in [
            "claims.email",
            "'x' + claims.email",
            "claims['email']",
            "claims.?email.orValue('')",
            "has(claims.email)",
            "[1].map(x, claims.email)",
        ] {
            assert!(reads(text), "{text}");
        }
        for text in [
            "claims.emails",
            "claims.x.email",
            "'email'",
            "claims['mail']",
        ] {
            assert!(!reads(text), "{text}");
        }
    }
}
