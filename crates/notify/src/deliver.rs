//! Telling the channels what is owed: each channel hears of an alert in order, first that it fires, then that it
//! is over.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::anyhow;
use cambium_alerts::{Alert, Delivery, State, Told};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::{Channel, Message, Said, meters, send};

/// A channel that does not take a message for so long is given up, for this message.
pub(crate) const PATIENCE: Duration = Duration::from_secs(6 * 3600);

/// What became of a message.
pub(crate) struct Outcome {
    pub id: String,
    pub channel: String,
    pub said: Said,
    /// Taken by the channel, or given up.
    pub was_taken: bool,
}

/// Messages on their way.
pub(crate) struct Deliveries {
    patience: Duration,
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
    /// A message that is not taken for so long is given up.
    pub fn new(patience: Duration) -> Deliveries {
        let (outcomes, received) = mpsc::unbounded_channel();
        Deliveries {
            patience,
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
            let channel = channels.iter().find(|channel| channel.name == *name).cloned();
            let (message, patience) = (Message::of(alert, said), self.patience);
            let outcomes = self.outcomes.clone();
            let (id, name) = key.clone();
            let task = tokio::spawn(async move {
                let sent = match &channel {
                    Some(channel) => send(channel, &message, patience).await,
                    None => Err(anyhow!("it is gone from the configuration")),
                };
                if let Err(error) = &sent {
                    tracing::error!("alert {id}: channel {name} is given up: {error:#}");
                }
                meters::delivery(&name, if sent.is_ok() { "sent" } else { "given_up" });
                let _ = outcomes.send(Outcome {
                    id,
                    channel: name,
                    said,
                    was_taken: sent.is_ok(),
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
    let delivery = if outcome.was_taken {
        Delivery::Sent
    } else {
        Delivery::GivenUp
    };
    match outcome.said {
        Said::Firing => told.firing = delivery,
        Said::Resolved => told.resolved = delivery,
    }
    alert
}

/// Whether anything is to be said of an alert.
pub(crate) fn is_owed(alert: &Alert) -> bool {
    alert.state != State::Forgotten && alert.told.values().any(|told| owed(told).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, Language};
    use cambium_alerts::{Evidence, Severity};

    fn alert(told: Told) -> Alert {
        Alert {
            id: "a1".to_owned(),
            rule: "payments".to_owned(),
            title: "pay".to_owned(),
            slice: String::new(),
            state: State::Firing,
            severity: Severity::Error,
            value: None,
            expected: None,
            low: None,
            high: None,
            started_at: 0,
            detected_at: 0,
            resolved_at: None,
            evidence: Evidence::default(),
            link: String::new(),
            told: [("ops".to_owned(), told)].into(),
        }
    }

    async fn outcome(deliveries: &mut Deliveries) -> Outcome {
        loop {
            if let Some(outcome) = deliveries.done().pop() {
                return outcome;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn what_is_given_up_was_not_sent() {
        // A port that nobody listens on.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        drop(listener);
        let away = Channel {
            name: "ops".to_owned(),
            kind: Kind::Webhook,
            url,
            secret: None,
            language: Language::En,
        };
        let alert = alert(Told {
            firing: Delivery::Sending,
            resolved: Delivery::None,
        });
        // One that does not answer, and one that is gone from the configuration.
        for channels in [vec![away], Vec::new()] {
            let mut deliveries = Deliveries::new(Duration::ZERO);
            deliveries.start(&alert, &channels);
            let outcome = outcome(&mut deliveries).await;
            assert!(!outcome.was_taken);
            let noted = noted(&alert, &outcome);
            assert_eq!(noted.told["ops"].firing, Delivery::GivenUp);
            // It is not tried again, and the journal has it so.
            assert!(!is_owed(&noted));
            let written = serde_json::to_string(&noted).unwrap();
            assert!(written.contains(r#""firing":"given_up""#), "{written}");
            assert_eq!(serde_json::from_str::<Alert>(&written).unwrap(), noted);
        }
    }
}
