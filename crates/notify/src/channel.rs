//! A channel, with its secrets read.

use crate::Language;

/// How a channel is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// JSON, signed where there is a secret.
    Webhook,
    Slack,
    /// Feishu and Lark; signed where there is a secret.
    Feishu,
    /// Signed where there is a secret.
    DingTalk,
    WeCom,
    /// The secret is the routing key.
    PagerDuty,
    /// SMTP: the URL is `smtps://user:password@host`.
    Email {
        from: String,
        to: Vec<String>,
    },
    Alertmanager,
}

#[derive(Clone, Debug)]
pub struct Channel {
    pub name: String,
    pub kind: Kind,
    pub url: String,
    pub secret: Option<String>,
    pub language: Language,
}
