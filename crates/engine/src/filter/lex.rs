//! The words of a filter, each with its place.

use winnow::combinator::{alt, delimited, preceded};
use winnow::prelude::*;
use winnow::token::{one_of, take_while};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'t> {
    /// A name or keyword; dots between names are part of it.
    Word(&'t str),
    /// What stands behind a name in brackets, without its first dot.
    Steps(&'t str),
    Number(&'t str),
    Text(String),
    Symbol(&'t str),
}

/// The tokens with their byte offsets, or the offset of what is none.
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token<'_>)>, usize> {
    let mut rest = text;
    let mut found = Vec::new();
    loop {
        rest = rest.trim_start();
        let place = text.len() - rest.len();
        if rest.is_empty() {
            return Ok(found);
        }
        match token(&mut rest) {
            Ok(token) => found.push((place, token)),
            Err(_) => return Err(place),
        }
    }
}

fn token<'t>(input: &mut &'t str) -> ModalResult<Token<'t>> {
    alt((
        alt((
            alt(("==", "!=", "<=", ">=", "<", ">")),
            alt(("(", ")", "[", "]", ",")),
        ))
        .map(Token::Symbol),
        quoted('"').map(Token::Text),
        quoted('\'').map(Token::Text),
        number.map(Token::Number),
        word.map(Token::Word),
        preceded('.', word).map(Token::Steps),
    ))
    .parse_next(input)
}

fn number<'t>(input: &mut &'t str) -> ModalResult<&'t str> {
    (
        winnow::combinator::opt('-'),
        take_while(1.., |c: char| c.is_ascii_digit()),
        take_while(0.., |c: char| {
            c.is_ascii_alphanumeric() || c == '.' || c == '-' || c == '+'
        }),
    )
        .take()
        .verify(|text: &str| text.parse::<f64>().is_ok())
        .parse_next(input)
}

fn word<'t>(input: &mut &'t str) -> ModalResult<&'t str> {
    (
        one_of(|c: char| c.is_alphabetic() || c == '_' || c == '$'),
        take_while(0.., |c: char| {
            c.is_alphanumeric() || matches!(c, '_' | '$' | '.' | '-')
        }),
    )
        .take()
        .parse_next(input)
}

/// Text in quotes; a backslash takes the next character as it is.
fn quoted<'t>(quote: char) -> impl FnMut(&mut &'t str) -> ModalResult<String> {
    move |input| {
        let inner = winnow::combinator::repeat(
            0..,
            alt((
                ('\\', winnow::token::any).map(|(_, character)| character),
                winnow::token::none_of([quote, '\\']),
            )),
        );
        delimited(quote, inner, quote).parse_next(input)
    }
}
