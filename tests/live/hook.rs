//! A webhook's receiver, which may be unwell, and remembers what it got.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// What the receiver does with a message before it answers; gives the status of the answer.
type Answer = Box<dyn FnMut(&Value) -> u16 + Send>;

#[derive(Clone)]
pub struct Hook {
    pub url: String,
    /// Messages, and when each was taken in milliseconds since 1970.
    taken: Arc<Mutex<Vec<(i64, Value)>>>,
    answer: Arc<Mutex<Answer>>,
}

impl Hook {
    pub fn start() -> Hook {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let hook = Hook {
            url: format!("http://{}/hook", listener.local_addr().unwrap()),
            taken: Arc::default(),
            answer: Arc::new(Mutex::new(Box::new(|_| 200))),
        };
        let receiver = hook.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let receiver = receiver.clone();
                std::thread::spawn(move || receiver.receive(stream));
            }
        });
        hook
    }

    fn receive(&self, mut stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            if line.trim().is_empty() {
                break;
            }
            if let Some(text) = line.to_lowercase().strip_prefix("content-length: ") {
                length = text.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let message: Value = serde_json::from_slice(&body).ok()?;
        let status = (self.answer.lock().unwrap())(&message);
        if status == 200 {
            self.taken.lock().unwrap().push((now_ms(), message));
        }
        let text = format!("HTTP/1.1 {status} -\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).ok()
    }

    pub fn answers(&self, answer: impl FnMut(&Value) -> u16 + Send + 'static) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }

    /// What was taken so far: rule, state, id.
    pub fn taken(&self) -> Vec<(String, String, String)> {
        let text = |message: &Value, name: &str| message[name].as_str().unwrap().to_owned();
        let messages = self.messages();
        messages
            .iter()
            .map(|message| (text(message, "rule"), text(message, "state"), text(message, "id")))
            .collect()
    }

    /// The messages themselves.
    pub fn messages(&self) -> Vec<Value> {
        let taken = self.taken.lock().unwrap();
        taken.iter().map(|(_, message)| message.clone()).collect()
    }

    /// The messages of a rule in a state.
    pub fn messages_of(&self, rule: &str, state: &str) -> Vec<Value> {
        let mut messages = self.messages();
        messages.retain(|message| message["rule"] == rule && message["state"] == state);
        messages
    }

    /// When a message of an alert was taken first, in milliseconds since 1970.
    pub fn taken_at(&self, id: &str) -> i64 {
        let taken = self.taken.lock().unwrap();
        let found = taken.iter().find(|(_, message)| message["id"] == id);
        found.unwrap().0
    }

    /// Waits for a message of a rule in a state; gives the alert's id.
    pub async fn wait(&self, rule: &str, state: &str, within: Duration) -> String {
        let messages = self.wait_for(1, rule, state, within).await;
        messages[0]["id"].as_str().unwrap().to_owned()
    }

    /// Waits until so many messages of a rule in a state were taken, and gives them.
    pub async fn wait_for(&self, count: usize, rule: &str, state: &str, within: Duration) -> Vec<Value> {
        let begun = Instant::now();
        loop {
            let found = self.messages_of(rule, state);
            if found.len() >= count {
                return found;
            }
            assert!(
                begun.elapsed() < within,
                "no {state} of {rule}, number {count}, came within {within:?}: {:?}",
                self.taken()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_millis() as i64
}
