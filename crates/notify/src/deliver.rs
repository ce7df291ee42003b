//! Telling the channels what is owed: each channel hears of an alert in order, first that it fires, then that it
//! is over.

use std::collections::HashMap;
use std::time::Duration;

use cambium_alerts::{Alert, Delivery, State, Told};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::{Channel, Message, Said, send};

/// A channel that does not take a message for so long is given up, for this message.
const PATIENCE: Duration = Duration::from_secs(6 * 3600);

/// What became of a message.
pub(crate) struct Outcome {
    pub id: String,
    pub channel: String,
    pub said: Said,
}

/// Messages on their way.
pub(crate) struct Deliveries {
    under_way: HashMap<(String, String), JoinHandle<()>>,
    outcomes: mpsc::UnboundedSender<Outcome>,
    received: mpsc::UnboundedReceiver<Outcome>,
}

/// What a channel is owed next.
fn owed(told: &Told) -> Option<Said> {
    match (told.firing, told.resolved) {
        (Delivery::Sending, _) => Some(Said::Firing),
        (_, Delivery::Sending) => Some(Said::Resolved),
        _ => None,
    }
}

impl Deliveries {
    pub fn new() -> Deliveries {
        let (outcomes, received) = mpsc::unbounded_channel();
        Deliveries {
            under_way: HashMap::new(),
            outcomes,
            received,
        }
    }

    /// Starts what an alert's channels are owed and is not on its way.
    pub fn start(&mut self, alert: &Alert, channels: &[Channel]) {
        for (name, told) in &alert.told {
            let key = (alert.id.clone(), name.clone());
            let Some(said) = owed(told).filter(|_| !self.under_way.contains_key(&key)) else {
                continue;
            };
            let Some(channel) = channels.iter().find(|channel| channel.name == *name) else {
                tracing::warn!("alert {}: there is no channel {name} any more", alert.id);
                continue;
            };
            let (channel, message) = (channel.clone(), Message::of(alert, said));
            let outcomes = self.outcomes.clone();
            let id = alert.id.clone();
            let task = tokio::spawn(async move {
                if let Err(error) = send(&channel, &message, PATIENCE).await {
                    tracing::error!("alert {id}: channel {} was not told: {error:#}", channel.name);
                }
                let _ = outcomes.send(Outcome {
                    id,
                    channel: channel.name,
                    said,
                });
            });
            self.under_way.insert(key, task);
        }
    }

    /// What was sent since the last call.
    pub fn done(&mut self) -> Vec<Outcome> {
        let mut done = Vec::new();
        while let Ok(outcome) = self.received.try_recv() {
            self.under_way
                .remove(&(outcome.id.clone(), outcome.channel.clone()));
            done.push(outcome);
        }
        done
    }

    /// Another process goes on.
    pub fn stop(&mut self) {
        for (_, task) in self.under_way.drain() {
            task.abort();
        }
        while self.received.try_recv().is_ok() {}
    }

    /// Gives messages on their way a last chance.
    pub async fn finish(&mut self, within: Duration) {
        let tasks: Vec<_> = self.under_way.drain().map(|(_, task)| task).collect();
        let _ = tokio::time::timeout(within, futures::future::join_all(tasks)).await;
    }
}

/// An alert with an outcome noted.
pub(crate) fn noted(alert: &Alert, outcome: &Outcome) -> Alert {
    let mut alert = alert.clone();
    let told = alert.told.entry(outcome.channel.clone()).or_default();
    match outcome.said {
        Said::Firing => told.firing = Delivery::Sent,
        Said::Resolved => told.resolved = Delivery::Sent,
    }
    alert
}

/// Whether anything is to be said of an alert.
pub(crate) fn is_owed(alert: &Alert) -> bool {
    alert.state != State::Forgotten && alert.told.values().any(|told| owed(told).is_some())
}
