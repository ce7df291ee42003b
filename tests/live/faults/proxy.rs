//! What may stand between the program and ClickHouse: it passes everything on, or does what networks and servers do.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Passes,
    /// Takes connections and closes them.
    Refuses,
    /// Takes questions and never answers.
    Hangs,
    /// Answers 500, and passes nothing on.
    Fails,
    /// Passes questions on and loses the answers.
    LosesAnswers,
    /// Answers so much later.
    Dawdles(Duration),
}

pub struct Proxy {
    pub url: String,
    mood: Arc<Mutex<Mood>>,
}

const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Proxy {
    pub fn start(to: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mood = Arc::new(Mutex::new(Mood::Passes));
        let (to, shared) = (to.trim_start_matches("http://").to_owned(), mood.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (to, mood) = (to.clone(), shared.clone());
                std::thread::spawn(move || serve(client, &to, mood));
            }
        });
        Proxy { url, mood }
    }

    pub fn turns(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
}

fn serve(client: TcpStream, to: &str, mood: Arc<Mutex<Mood>>) {
    if *mood.lock().unwrap() == Mood::Refuses {
        return;
    }
    // A server that is away refuses: so does this.
    let Ok(server) = TcpStream::connect(to) else {
        return;
    };
    let (questions, answers) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let shared = mood.clone();
    std::thread::spawn(move || pass(answers, client, &shared, false));
    pass(questions, server, &mood, true);
}

/// Carries questions or answers from one side to the other, as the mood is.
fn pass(mut from: TcpStream, mut to: TcpStream, mood: &Mutex<Mood>, are_questions: bool) {
    from.set_read_timeout(Some(LOOK_EVERY)).unwrap();
    let mut bytes = vec![0; 1 << 16];
    loop {
        let now = *mood.lock().unwrap();
        let read = match from.read(&mut bytes) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if now == Mood::Refuses {
                    break;
                }
                continue;
            }
            Err(_) | Ok(0) => break,
            Ok(read) => &bytes[..read],
        };
        match (now, are_questions) {
            (Mood::Refuses, _) | (Mood::LosesAnswers, false) => break,
            // What is held stays so for as long as the other side waits.
            (Mood::Hangs, _) => continue,
            (Mood::Fails, true) => {
                fail(from);
                break;
            }
            (Mood::Dawdles(by), false) => std::thread::sleep(by),
            _ => {}
        }
        if to.write_all(read).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

fn fail(mut client: TcpStream) {
    let mut bytes = vec![0; 1 << 16];
    // What is still on its way: an answer before it may be lost with the connection.
    while client.read(&mut bytes).is_ok_and(|read| read > 0) {}
    let _ = client.write_all(
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 8\r\nConnection: close\r\n\r\nno luck\n",
    );
    let _ = client.shutdown(Shutdown::Both);
}
