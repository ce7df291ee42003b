//! The event and its fields.

use crate::Value;

/// The fields of an event, in the order of their slots in a [`crate::Plan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(usize)]
pub enum Field {
    MessageId,
    App,
    Event,
    UserId,
    AnonymousId,
    Timestamp,
    SessionId,
    Platform,
    AppVersion,
    Channel,
    Campaign,
    Country,
}

/// The dimensions that stand in every view, in the order of its columns.
pub const DIMENSIONS: [Field; 5] = [
    Field::Platform,
    Field::AppVersion,
    Field::Channel,
    Field::Campaign,
    Field::Country,
];

impl Field {
    pub const COUNT: usize = 12;
    pub const ALL: [Field; Field::COUNT] = [
        Field::MessageId,
        Field::App,
        Field::Event,
        Field::UserId,
        Field::AnonymousId,
        Field::Timestamp,
        Field::SessionId,
        Field::Platform,
        Field::AppVersion,
        Field::Channel,
        Field::Campaign,
        Field::Country,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Field::MessageId => "message_id",
            Field::App => "app",
            Field::Event => "event",
            Field::UserId => "user_id",
            Field::AnonymousId => "anonymous_id",
            Field::Timestamp => "timestamp",
            Field::SessionId => "session_id",
            Field::Platform => "platform",
            Field::AppVersion => "app_version",
            Field::Channel => "channel",
            Field::Campaign => "campaign",
            Field::Country => "country",
        }
    }

    pub fn from_name(name: &str) -> Option<Field> {
        Field::ALL.into_iter().find(|field| field.name() == name)
    }
}

/// One event, borrowed from its record. Text that is left out is ''.
#[derive(Clone, Debug, PartialEq)]
pub struct Event<'a> {
    pub message_id: &'a str,
    pub app: &'a str,
    pub event: &'a str,
    pub user_id: &'a str,
    pub anonymous_id: &'a str,
    /// Milliseconds since 1970.
    pub time: i64,
    pub session_id: &'a str,
    /// In the order of [`DIMENSIONS`].
    pub dimensions: [&'a str; 5],
    /// In the order of the plan's property paths.
    pub properties: &'a [Value<'a>],
    /// All properties as JSON text, where the plan asks for them; else ''.
    pub all_properties: &'a str,
}

impl Event<'_> {
    /// The id that the event is recorded under.
    pub fn user(&self) -> &str {
        if self.user_id.is_empty() {
            self.anonymous_id
        } else {
            self.user_id
        }
    }
}
