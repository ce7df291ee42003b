//! What runs the rules, and telling people: what a message says, and the channels that carry it.

mod channel;
mod deliver;
mod email;
mod explain;
mod history;
mod lines;
mod message;
mod meters;
mod numbers;
mod pulse;
mod register;
mod request;
mod run;
mod send;
mod settings;

pub use channel::{Channel, Kind};
pub use history::{Judged, history};
pub use message::{Language, Message, Said};
pub use numbers::watched;
pub use register::{Entry, Silence};
pub use request::{Request, request};
pub use run::run;
pub use send::send;
pub use settings::{Settings, pipeline_rules};
