//! The language of `where`: comparisons of an event's fields and properties, joined by
//! `and`, `or`, `not`. A comparison with what is missing, or of another type, is false.

mod lex;
mod parse;
mod sql;

use std::cmp::Ordering;

use cambium_event::{DIMENSIONS, Event, Field, Number, Value};

pub use parse::FilterError;
pub use sql::quoted;

use crate::processor::PropertyTable;

/// A compiled `where`.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter(Expression);

#[derive(Clone, Debug, PartialEq)]
enum Expression {
    Or(Vec<Expression>),
    And(Vec<Expression>),
    Not(Box<Expression>),
    Compare(Operand, Comparison, Literal),
    In {
        operand: Operand,
        literals: Vec<Literal>,
        negated: bool,
    },
    Exists(Operand),
    Contains(Operand, String),
    StartsWith(Operand, String),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operand {
    Field(Field),
    /// By its slot.
    Property(usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Debug, PartialEq)]
enum Literal {
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
}

impl Filter {
    /// Compiles a text; its properties get slots in `properties`.
    pub fn new(text: &str, properties: &mut PropertyTable) -> Result<Filter, FilterError> {
        parse::parse(text, properties).map(Filter)
    }

    pub fn fits(&self, event: &Event<'_>) -> bool {
        self.0.holds(event)
    }
}

impl Expression {
    fn holds(&self, event: &Event<'_>) -> bool {
        match self {
            Expression::Or(all) => all.iter().any(|one| one.holds(event)),
            Expression::And(all) => all.iter().all(|one| one.holds(event)),
            Expression::Not(inner) => !inner.holds(event),
            Expression::Compare(operand, comparison, literal) => {
                operand.with(event, |value| comparison.holds(order(value, literal)))
            }
            Expression::In {
                operand,
                literals,
                negated,
            } => operand.with(event, |value| is_in(value, literals, *negated)),
            Expression::Exists(operand) => {
                operand.with(event, |value| !matches!(value, Value::Missing | Value::Null))
            }
            Expression::Contains(operand, part) => operand.with(
                event,
                |value| matches!(value, Value::Text(text) if text.contains(part.as_str())),
            ),
            Expression::StartsWith(operand, part) => operand.with(
                event,
                |value| matches!(value, Value::Text(text) if text.starts_with(part.as_str())),
            ),
        }
    }
}

/// `in` is "equal to one of them"; `not in` "of the type of one of them, and equal to none".
fn is_in(value: &Value<'_>, literals: &[Literal], negated: bool) -> bool {
    let orders = || literals.iter().filter_map(|literal| order(value, literal));
    let equal = orders().any(|order| order == Order::Known(Ordering::Equal));
    if negated {
        !equal && orders().next().is_some()
    } else {
        equal
    }
}

/// How a value stands to a literal of its own type.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    Known(Ordering),
    /// Of the same type, without an order between them: not a number.
    None,
}

fn order(value: &Value<'_>, literal: &Literal) -> Option<Order> {
    let order = match (value, literal) {
        (Value::Text(text), Literal::Text(literal)) => Some(text.as_ref().cmp(literal.as_str())),
        (Value::Bool(value), Literal::Bool(literal)) => Some(value.cmp(literal)),
        (Value::Number(number), Literal::Int(literal)) => number.compare(&Number::Int(*literal)),
        (Value::Number(number), Literal::Float(literal)) => number.compare(&Number::Float(*literal)),
        _ => return None,
    };
    Some(order.map_or(Order::None, Order::Known))
}

impl Comparison {
    fn holds(self, order: Option<Order>) -> bool {
        let Some(Order::Known(order)) = order else {
            return false;
        };
        match self {
            Comparison::Equal => order.is_eq(),
            Comparison::NotEqual => order.is_ne(),
            Comparison::Less => order.is_lt(),
            Comparison::LessOrEqual => order.is_le(),
            Comparison::Greater => order.is_gt(),
            Comparison::GreaterOrEqual => order.is_ge(),
        }
    }
}

impl Operand {
    fn with<R>(self, event: &Event<'_>, test: impl FnOnce(&Value<'_>) -> R) -> R {
        match self {
            Operand::Property(slot) => test(event.properties.get(slot).unwrap_or(&Value::Missing)),
            Operand::Field(Field::Timestamp) => test(&Value::Number(Number::Int(event.time))),
            Operand::Field(field) => match field_text(field, event) {
                "" => test(&Value::Missing),
                text => test(&Value::Text(text.into())),
            },
        }
    }
}

fn field_text<'e>(field: Field, event: &'e Event<'_>) -> &'e str {
    match field {
        Field::MessageId => event.message_id,
        Field::App => event.app,
        Field::Event => event.event,
        Field::UserId => event.user_id,
        Field::AnonymousId => event.anonymous_id,
        Field::SessionId => event.session_id,
        Field::Timestamp => "",
        dimension => DIMENSIONS
            .iter()
            .position(|one| *one == dimension)
            .map_or("", |place| event.dimensions[place]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cambium_event::{Fields, Plan, Record, read};

    fn fits(text: &str) -> Result<bool, String> {
        let mut properties = PropertyTable::default();
        let filter = Filter::new(text, &mut properties).map_err(|error| error.to_string())?;
        let plan = Plan::new(&Fields::default(), properties.paths());
        let line = br#"{"app":"shop","event":"buy","user_id":"u","timestamp":5,"platform":"ios","properties":
            {"price":12.5,"n":3,"vip":true,"plan":"pro","unit price":1,"a":{"b":"x","c d":{"e":2}},"ios":{"platform":1},"none":null,"platform":"p","_x":1,"$y":2,
            "exists":1,"contains":2,"starts_with":3,"properties":4,"big":9007199254740993}}"#;
        let record = Record {
            payload: Some(line),
            ..Record::default()
        };
        Ok(read(&record, &plan, |event| filter.fits(event)).unwrap())
    }

    #[test]
    fn comparisons_hold_as_the_interface_says() {
        for (text, holds) in [
            ("price > 10", true),
            ("price > 10 and vip == true", true),
            ("price == '12.5'", false),
            ("price != '12.5'", false),
            ("plan in ('pro', \"team\")", true),
            ("plan not in ('basic')", true),
            ("missing not in ('basic')", false),
            ("missing != 1", false),
            ("not (missing == 1)", true),
            ("not missing == 1", true),
            ("exists(none) or exists(missing)", false),
            ("exists(price)", true),
            ("contains(plan, \"r\") and starts_with(plan, 'p')", true),
            ("platform == 'ios' and properties.platform == 'p'", true),
            ("properties[\"unit price\"] == 1", true),
            ("properties.a.b == 'x' and a.b == 'x'", true),
            ("properties['a'].b == 'x' and a[\"b\"] == 'x'", true),
            ("a['c d'].e == 2 and properties.a[\"c d\"][\"e\"] == 2", true),
            ("n in (1, 2, 3) or false_thing == true", true),
            ("timestamp >= 5 and event == 'buy'", true),
            ("n >= 3 and n <= 3.0 and n < 3.5", true),
            ("vip != false and not vip == false", true),
            ("_x == 1 and $y == 2", true),
            // A double would take them for one.
            ("big == 9007199254740993 and big != 9007199254740992", true),
            ("exists == 1 and contains == 2 and starts_with == 3", true),
            ("properties == 4 and properties.properties == 4", true),
            ("price == 1.25e1 and price < 1.3e+1 and price > 1e-3", true),
            ("vip", false),
        ] {
            let result = fits(text);
            if text == "vip" {
                assert!(result.is_err());
            } else {
                assert_eq!(result, Ok(holds), "{text}");
            }
        }
    }

    /// What stands beside each other is not nested.
    #[test]
    fn a_filter_is_nested_so_deeply_and_no_deeper() {
        for (text, holds) in [
            (format!("{}n == 3", "not ".repeat(62)), Some(true)),
            (format!("{}n == 3", "not ".repeat(63)), Some(false)),
            (format!("{}n == 3", "not ".repeat(64)), None),
            (format!("{}n == 3{}", "(".repeat(63), ")".repeat(63)), Some(true)),
            (format!("{}n == 3{}", "(".repeat(64), ")".repeat(64)), None),
            (["not n == 4"; 200].join(" and "), Some(true)),
        ] {
            assert_eq!(fits(&text).ok(), holds, "{text}");
        }
    }

    #[test]
    fn errors_point_at_the_place() {
        for (text, place) in [
            ("price >", 7),
            ("price > 1 andd x == 1", 10),
            ("(a == 1", 7),
            ("a = 1", 2),
            ("a not == 1", 2),
            ("and == 1", 0),
            ("a == 1 or true == 1", 10),
            ("a == 'x", 5),
        ] {
            let mut properties = PropertyTable::default();
            let error = Filter::new(text, &mut properties).unwrap_err();
            assert_eq!(error.place, place, "{text}: {error}");
        }
        let error = Filter::new("é == 1 andd", &mut PropertyTable::default()).unwrap_err();
        assert!(
            error.to_string().ends_with("\n    é == 1 andd\n           ^"),
            "{error}"
        );
    }
}
