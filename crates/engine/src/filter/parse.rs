//! From words to an expression.

use cambium_event::Field;

use super::lex::{Token, tokens};
use super::{Comparison, Expression, Literal, Operand};
use crate::processor::PropertyTable;

/// A filter that cannot be read, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}\n    {text}\n    {pointer}", pointer = pointer(.text, *.place))]
pub struct FilterError {
    pub text: String,
    /// In bytes from its beginning.
    pub place: usize,
    pub message: String,
}

fn pointer(text: &str, place: usize) -> String {
    let before = text.get(..place).unwrap_or(text).chars().count();
    format!("{}^", " ".repeat(before))
}

/// `not not not …` and `((((…` stop here, long before the stack does.
const MAX_DEPTH: usize = 64;

pub(super) fn parse(text: &str, properties: &mut PropertyTable) -> Result<Expression, FilterError> {
    let tokens = tokens(text).map_err(|place| FilterError {
        text: text.to_owned(),
        place,
        message: "this is no name, number, text in quotes or sign of the language of `where`".to_owned(),
    })?;
    let mut parser = Parser {
        text,
        tokens,
        next: 0,
        depth: 0,
        properties,
    };
    let expression = parser.or()?;
    match parser.peek() {
        None => Ok(expression),
        Some(_) => Err(parser.error("`and`, `or` or the end was expected here")),
    }
}

struct Parser<'t, 'p> {
    text: &'t str,
    tokens: Vec<(usize, Token<'t>)>,
    next: usize,
    depth: usize,
    properties: &'p mut PropertyTable,
}

impl Parser<'_, '_> {
    fn peek(&self) -> Option<&Token<'_>> {
        self.tokens.get(self.next).map(|(_, token)| token)
    }

    fn error(&self, message: &str) -> FilterError {
        let place = self
            .tokens
            .get(self.next)
            .map_or(self.text.len(), |(place, _)| *place);
        FilterError {
            text: self.text.to_owned(),
            place,
            message: message.to_owned(),
        }
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.peek() == Some(&Token::Word(word));
        self.next += usize::from(found);
        found
    }

    fn take_symbol(&mut self, symbol: &str) -> bool {
        let found = self.peek() == Some(&Token::Symbol(symbol));
        self.next += usize::from(found);
        found
    }

    fn expect_symbol(&mut self, symbol: &str) -> Result<(), FilterError> {
        if self.take_symbol(symbol) {
            Ok(())
        } else {
            Err(self.error(&format!("`{symbol}` was expected here")))
        }
    }

    fn or(&mut self) -> Result<Expression, FilterError> {
        let mut all = vec![self.and()?];
        while self.take_word("or") {
            all.push(self.and()?);
        }
        Ok(if all.len() == 1 {
            all.remove(0)
        } else {
            Expression::Or(all)
        })
    }

    fn and(&mut self) -> Result<Expression, FilterError> {
        let mut all = vec![self.not()?];
        while self.take_word("and") {
            all.push(self.not()?);
        }
        Ok(if all.len() == 1 {
            all.remove(0)
        } else {
            Expression::And(all)
        })
    }

    fn not(&mut self) -> Result<Expression, FilterError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error("nested too deeply"));
        }
        let expression = if self.take_word("not") {
            Expression::Not(Box::new(self.not()?))
        } else {
            self.primary()?
        };
        self.depth -= 1;
        Ok(expression)
    }

    fn primary(&mut self) -> Result<Expression, FilterError> {
        if self.take_symbol("(") {
            let inner = self.or()?;
            self.expect_symbol(")")?;
            return Ok(inner);
        }
        let is_call = matches!(self.tokens.get(self.next + 1), Some((_, Token::Symbol("("))));
        match self.peek() {
            Some(Token::Word("exists")) if is_call => self.exists(),
            Some(Token::Word("contains")) if is_call => self.text_test(Expression::Contains),
            Some(Token::Word("starts_with")) if is_call => self.text_test(Expression::StartsWith),
            _ => self.comparison(),
        }
    }

    fn exists(&mut self) -> Result<Expression, FilterError> {
        self.next += 2;
        let operand = self.operand()?;
        self.expect_symbol(")")?;
        Ok(Expression::Exists(operand))
    }

    fn text_test(&mut self, make: fn(Operand, String) -> Expression) -> Result<Expression, FilterError> {
        self.next += 2;
        let operand = self.operand()?;
        self.expect_symbol(",")?;
        let Some(Token::Text(part)) = self.peek().cloned() else {
            return Err(self.error("a text in quotes was expected here"));
        };
        self.next += 1;
        self.expect_symbol(")")?;
        Ok(make(operand, part))
    }

    fn comparison(&mut self) -> Result<Expression, FilterError> {
        let operand = self.operand()?;
        if self.take_word("in") {
            return self.list(operand, false);
        }
        if self.peek() == Some(&Token::Word("not"))
            && matches!(self.tokens.get(self.next + 1), Some((_, Token::Word("in"))))
        {
            self.next += 2;
            return self.list(operand, true);
        }
        let comparison = match self.peek() {
            Some(Token::Symbol("==")) => Comparison::Equal,
            Some(Token::Symbol("!=")) => Comparison::NotEqual,
            Some(Token::Symbol("<")) => Comparison::Less,
            Some(Token::Symbol("<=")) => Comparison::LessOrEqual,
            Some(Token::Symbol(">")) => Comparison::Greater,
            Some(Token::Symbol(">=")) => Comparison::GreaterOrEqual,
            _ => return Err(self.error("a comparison was expected here: == != < <= > >= in, not in")),
        };
        self.next += 1;
        Ok(Expression::Compare(operand, comparison, self.literal()?))
    }

    fn list(&mut self, operand: Operand, negated: bool) -> Result<Expression, FilterError> {
        self.expect_symbol("(")?;
        let mut literals = vec![self.literal()?];
        while self.take_symbol(",") {
            literals.push(self.literal()?);
        }
        self.expect_symbol(")")?;
        Ok(Expression::In {
            operand,
            literals,
            negated,
        })
    }

    fn operand(&mut self) -> Result<Operand, FilterError> {
        let word = match self.peek() {
            Some(Token::Word(word)) if !matches!(*word, "and" | "or" | "not" | "in" | "true" | "false") => {
                (*word).to_owned()
            }
            _ => return Err(self.error("the name of a field or property was expected here")),
        };
        self.next += 1;
        let further = self.further_steps()?;
        if let Some(field) = Field::from_name(&word).filter(|_| further.is_empty()) {
            return Ok(Operand::Field(field));
        }
        let mut path = match word.as_str() {
            "properties" if !further.is_empty() => Vec::new(),
            _ => PropertyTable::path(&word),
        };
        path.extend(further);
        Ok(Operand::Property(self.properties.slot(path)))
    }

    /// The steps of a path from its first name in brackets on: `["unit price"].amount`.
    fn further_steps(&mut self) -> Result<Vec<String>, FilterError> {
        let mut steps = Vec::new();
        loop {
            if self.take_symbol("[") {
                let Some(Token::Text(name)) = self.peek().cloned() else {
                    return Err(self.error("a property's name in quotes was expected here"));
                };
                self.next += 1;
                self.expect_symbol("]")?;
                steps.push(name);
            } else if let Some(Token::Steps(names)) = self.peek()
                && !steps.is_empty()
            {
                steps.extend(names.split('.').map(str::to_owned));
                self.next += 1;
            } else {
                return Ok(steps);
            }
        }
    }

    fn literal(&mut self) -> Result<Literal, FilterError> {
        let literal = match self.peek() {
            Some(Token::Text(text)) => Literal::Text(text.clone()),
            Some(Token::Word("true")) => Literal::Bool(true),
            Some(Token::Word("false")) => Literal::Bool(false),
            Some(Token::Number(text)) => match (text.parse::<i64>(), text.parse::<f64>()) {
                (Ok(int), _) => Literal::Int(int),
                (_, Ok(float)) => Literal::Float(float),
                _ => return Err(self.error("this is no number")),
            },
            _ => {
                return Err(
                    self.error("a value was expected here: a number, a text in quotes, true or false")
                );
            }
        };
        self.next += 1;
        Ok(literal)
    }
}
