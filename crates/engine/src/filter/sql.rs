//! A `where` over the columns of a view: what an event's fields and properties are there as text.

use cambium_event::Field;

use super::{Comparison, Expression, Filter, Literal, Operand};
use crate::{DefinitionError, PropertyTable};

/// A text as ClickHouse writes it.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

impl Filter {
    /// The condition of a query on a view that keeps the fields and properties of `by`. A number and its text are
    /// the same there; a comparison with what is missing is false.
    ///
    /// # Errors
    /// Where it names what the view does not keep.
    pub fn sql(text: &str, by: &[String]) -> Result<String, DefinitionError> {
        let mut properties = PropertyTable::default();
        let filter = Filter::new(text, &mut properties)?;
        Columns {
            properties: &properties,
            by,
        }
        .expression(&filter.0)
    }
}

struct Columns<'c> {
    properties: &'c PropertyTable,
    by: &'c [String],
}

impl Columns<'_> {
    fn expression(&self, expression: &Expression) -> Result<String, DefinitionError> {
        let joined = |all: &[Expression], with: &str| -> Result<String, DefinitionError> {
            let parts: Result<Vec<String>, _> = all.iter().map(|one| self.expression(one)).collect();
            Ok(format!("({})", parts?.join(with)))
        };
        Ok(match expression {
            Expression::Or(all) => joined(all, " OR ")?,
            Expression::And(all) => joined(all, " AND ")?,
            Expression::Not(inner) => format!("(NOT {})", self.expression(inner)?),
            Expression::Compare(operand, comparison, literal) => {
                self.compare(*operand, *comparison, literal)?
            }
            Expression::In {
                operand,
                literals,
                negated,
            } => {
                let column = self.column(*operand)?;
                let texts: Vec<String> = literals.iter().map(|literal| quoted(&shown(literal))).collect();
                let not = if *negated { "NOT " } else { "" };
                format!("({column} != '' AND {column} {not}IN ({}))", texts.join(", "))
            }
            Expression::Exists(operand) => format!("({} != '')", self.column(*operand)?),
            Expression::Contains(operand, part) => {
                format!("(position({}, {}) > 0)", self.column(*operand)?, quoted(part))
            }
            Expression::StartsWith(operand, part) => {
                format!("startsWith({}, {})", self.column(*operand)?, quoted(part))
            }
        })
    }

    fn compare(
        &self,
        operand: Operand,
        comparison: Comparison,
        literal: &Literal,
    ) -> Result<String, DefinitionError> {
        let column = self.column(operand)?;
        let sign = match comparison {
            Comparison::Equal => "=",
            Comparison::NotEqual => "!=",
            Comparison::Less => "<",
            Comparison::LessOrEqual => "<=",
            Comparison::Greater => ">",
            Comparison::GreaterOrEqual => ">=",
        };
        Ok(match literal {
            Literal::Int(_) | Literal::Float(_) => {
                format!("ifNull(toFloat64OrNull({column}) {sign} {}, 0)", shown(literal))
            }
            Literal::Text(_) | Literal::Bool(_) => {
                format!("({column} != '' AND {column} {sign} {})", quoted(&shown(literal)))
            }
        })
    }

    /// The column that an operand is.
    fn column(&self, operand: Operand) -> Result<String, DefinitionError> {
        let (name, column) = match operand {
            Operand::Field(field @ (Field::App | Field::Event)) => return Ok(field.name().to_owned()),
            Operand::Field(field) => (field.name().to_owned(), field.name().to_owned()),
            Operand::Property(slot) => {
                let name = self.properties.paths()[slot].join(".");
                let column = format!("properties[{}]", quoted(&name));
                (name, column)
            }
        };
        let is_kept = self
            .by
            .iter()
            .any(|kept| *kept == name || PropertyTable::path(kept).join(".") == name);
        if is_kept {
            return Ok(column);
        }
        Err(DefinitionError::new(format!(
            "'{name}' is not kept; `by` there keeps {}",
            if self.by.is_empty() {
                "nothing".to_owned()
            } else {
                self.by.join(", ")
            }
        )))
    }
}

fn shown(literal: &Literal) -> String {
    match literal {
        Literal::Text(text) => text.clone(),
        Literal::Int(number) => number.to_string(),
        Literal::Float(number) => number.to_string(),
        Literal::Bool(value) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_condition_on_what_the_view_keeps() {
        let by = [
            "platform".to_owned(),
            "properties.plan".to_owned(),
            "price".to_owned(),
        ];
        for (text, sql) in [
            (
                "platform == \"i'os\" and not (plan in (\"pro\", \"free\"))",
                "((platform != '' AND platform = 'i\\'os') AND (NOT (properties['plan'] != '' AND properties['plan'] IN ('pro', 'free'))))",
            ),
            (
                "price > 10.5",
                "ifNull(toFloat64OrNull(properties['price']) > 10.5, 0)",
            ),
            ("exists(properties.plan)", "(properties['plan'] != '')"),
            ("event != \"buy\"", "(event != '' AND event != 'buy')"),
        ] {
            assert_eq!(Filter::sql(text, &by).unwrap(), sql, "{text}");
        }
        let error = Filter::sql("channel == \"ads\"", &by).unwrap_err();
        assert!(error.message.contains("'channel' is not kept"), "{error}");
    }
}
