//! What a record is read into: a place for each thing that a plan wants.

use std::borrow::Cow;

use bumpalo::Bump;
use smallvec::SmallVec;

use crate::{Field, Number, Value};

/// Where a wanted value goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// An id or a name: text, whatever it was.
    Name(Field),
    Time,
    /// By its place in the plan.
    Property(usize),
    /// The object of all properties, as JSON text.
    AllProperties,
}

impl Slot {
    pub fn of(field: Field) -> Slot {
        match field {
            Field::Timestamp => Slot::Time,
            name => Slot::Name(name),
        }
    }
}

pub(crate) struct Slots<'a> {
    /// By field; what is left out is ''.
    pub names: [&'a str; Field::COUNT],
    pub time: Value<'a>,
    /// As many as most plans have lie on the stack.
    pub properties: SmallVec<[Value<'a>; 16]>,
    pub all_properties: &'a str,
    /// Text that stands in the record in another way lives here: most records have none.
    made: &'a Bump,
}

impl<'a> Slots<'a> {
    #[inline(always)]
    pub fn new(made: &'a Bump) -> Slots<'a> {
        Slots {
            names: [""; Field::COUNT],
            time: Value::Missing,
            properties: SmallVec::new(),
            all_properties: "",
            made,
        }
    }

    /// Makes room for properties.
    #[inline(always)]
    pub fn expect_properties(&mut self, count: usize) {
        // No more than a loop of a few instructions, as against `resize`.
        for _ in 0..count {
            self.properties.push(Value::Missing);
        }
    }

    #[inline]
    pub fn clear(&mut self, wanted: &[Slot]) {
        for slot in wanted {
            match slot {
                Slot::Name(field) => self.names[*field as usize] = "",
                Slot::Time => self.time = Value::Missing,
                Slot::Property(place) => self.properties[*place] = Value::Missing,
                Slot::AllProperties => self.all_properties = "",
            }
        }
    }

    /// A text, for all that want it.
    #[inline]
    pub fn put_text(&mut self, text: &'a str, wanted: &[Slot]) {
        for slot in wanted {
            match slot {
                Slot::Name(field) => self.names[*field as usize] = text,
                _ => self.put_one(Value::Text(Cow::Borrowed(text)), *slot),
            }
        }
    }

    /// A value, for all that want it.
    #[inline]
    pub fn put(&mut self, value: Value<'a>, wanted: &[Slot]) {
        if let [slot] = wanted {
            return self.put_one(value, *slot);
        }
        for slot in wanted {
            self.put_one(value.clone(), *slot);
        }
    }

    fn put_one(&mut self, value: Value<'a>, slot: Slot) {
        match slot {
            Slot::Name(field) => self.names[field as usize] = self.name(&value),
            Slot::Time => self.time = value,
            Slot::Property(place) => self.properties[place] = value,
            Slot::AllProperties => {}
        }
    }

    /// The text of an id or a name: text as it is, a number as its decimal text, all else as left out.
    fn name(&self, value: &Value<'a>) -> &'a str {
        match value {
            Value::Text(Cow::Borrowed(text)) => text,
            Value::Text(Cow::Owned(text)) => self.made.alloc_str(text),
            Value::Number(Number::Int(0)) => "0",
            Value::Number(number) => match number.decimal() {
                Cow::Borrowed(text) => text,
                Cow::Owned(text) => self.made.alloc_str(&text),
            },
            _ => "",
        }
    }

    /// A number of which the text is known, as JSON writes it.
    pub fn put_number(&mut self, text: &'a str, number: Number<'a>, wanted: &[Slot]) {
        for slot in wanted {
            match (slot, number) {
                // The decimal text of a whole number, but for a zero with a sign.
                (Slot::Name(field), Number::Int(..=-1 | 1..)) => self.names[*field as usize] = text,
                // A fraction of a time is cut on its digits.
                (Slot::Time, Number::Float(_)) => self.time = Value::Number(Number::Text(text)),
                _ => self.put_one(Value::Number(number), *slot),
            }
        }
    }

    /// Text that no record holds.
    pub fn keep(&self, text: &str) -> &'a str {
        self.made.alloc_str(text)
    }
}
