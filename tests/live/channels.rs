//! Channels, tried by `cambium alerts test` against stand-ins for those who receive.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value;

use super::cambium;

/// A receiver that is not well at first; what it got, with its headers.
fn receiver(failures: usize) -> (String, Receiver<(Vec<String>, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (send, received) = channel();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut headers = Vec::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if line.trim().is_empty() {
                    break;
                }
                headers.push(line.trim().to_lowercase());
            }
            let length = headers
                .iter()
                .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            reader.read_exact(&mut body).unwrap();
            let status = if number < failures {
                "500 Not Well"
            } else {
                "200 OK"
            };
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            if number >= failures {
                send.send((headers, String::from_utf8(body).unwrap())).unwrap();
            }
        }
    });
    (url, received)
}

#[test]
fn a_channel_is_tried_for_real() {
    let directory = tempfile::tempdir().unwrap();
    let (url, received) = receiver(1);
    std::fs::write(directory.path().join("url"), url + "\n").unwrap();
    std::fs::write(directory.path().join("key"), "secret\n").unwrap();
    let text = "[[channel]]\nname = \"ops\"\nkind = \"webhook\"\nurl_file = \"url\"\nsecret_file = \"key\"\n";
    std::fs::write(directory.path().join("c.toml"), text).unwrap();
    let output = cambium(directory.path(), &["alerts", "test", "ops", "--config", "c.toml"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut ids = Vec::new();
    for state in ["firing", "resolved"] {
        let (headers, body) = received.recv().unwrap();
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["state"], state);
        ids.push(body["id"].as_str().unwrap().to_owned());
        assert!(
            headers
                .iter()
                .any(|header| header.starts_with("x-cambium-signature: sha256="))
        );
    }
    assert_eq!(ids[0], ids[1]);
    let output = cambium(
        directory.path(),
        &["alerts", "test", "opps", "--config", "c.toml"],
    );
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("did you mean 'ops'?"), "{said}");
}

/// Tries the channel `ops` of a configuration: the exit code, and what was said.
fn tried(directory: &Path, text: &str) -> (Option<i32>, String) {
    std::fs::write(directory.join("c.toml"), text).unwrap();
    let output = cambium(directory, &["alerts", "test", "ops", "--config", "c.toml"]);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

/// By the API v2 of Alertmanager, `POST /api/v2/alerts`.
#[test]
fn an_alertmanager_gets_alerts() {
    let directory = tempfile::tempdir().unwrap();
    let (url, received) = receiver(0);
    let text = format!(
        "[alerts]\nlink = \"https://wiki/alerts\"\n\
         [[channel]]\nname = \"ops\"\nkind = \"alertmanager\"\nurl = \"{url}/\"\n"
    );
    let (code, said) = tried(directory.path(), &text);
    assert_eq!(code, Some(0), "{said}");
    let mut alerts: Vec<Value> = Vec::new();
    for _ in 0..2 {
        let (headers, body) = received.recv().unwrap();
        assert_eq!(headers[0], "post /api/v2/alerts http/1.1");
        assert!(
            headers.contains(&"content-type: application/json".to_owned()),
            "{headers:?}"
        );
        let body: Vec<Value> = serde_json::from_str(&body).unwrap();
        assert_eq!(body.len(), 1);
        alerts.extend(body);
    }
    let instant = |alert: &Value, name: &str| alert[name].as_str().unwrap().to_owned();
    let (firing, resolved) = (&alerts[0], &alerts[1]);
    // What has the same labels is the same alert.
    assert_eq!(firing["labels"], resolved["labels"]);
    assert_eq!(firing["labels"]["alertname"], "test");
    assert_eq!(firing["labels"]["severity"], "info");
    assert!(
        firing["labels"]["cambium_id"]
            .as_str()
            .unwrap()
            .starts_with("test-")
    );
    assert!(
        firing["annotations"]["summary"]
            .as_str()
            .unwrap()
            .contains("nothing is wrong")
    );
    assert!(
        firing["annotations"]["description"]
            .as_str()
            .unwrap()
            .contains("now 12, expected 200")
    );
    assert_eq!(firing["generatorURL"], "https://wiki/alerts");
    assert_eq!(instant(firing, "startsAt"), instant(resolved, "startsAt"));
    // Instants of RFC 3339 in UTC are in the order of their texts.
    assert!(instant(resolved, "startsAt") < instant(resolved, "endsAt"));
    assert!(instant(firing, "endsAt") > instant(resolved, "endsAt"));
}

#[test]
fn an_alertmanager_that_refuses_is_quoted() {
    let directory = tempfile::tempdir().unwrap();
    let (url, _received) = receiver(usize::MAX);
    let text = format!("[[channel]]\nname = \"ops\"\nkind = \"alertmanager\"\nurl = \"{url}\"\n");
    let (code, said) = tried(directory.path(), &text);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("channel ops: answered 500") && !said.contains("sent two messages"),
        "{said}"
    );
}

/// What a mail server was told, line by line, one session after the other.
struct Letters {
    url: String,
    received: Receiver<Vec<String>>,
}

/// The least of RFC 5321, with a password; `recipient` is what it answers to RCPT.
fn mail_server(recipient: &'static str) -> Letters {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!(
        "smtp://cambium:secret@127.0.0.1:{}",
        listener.local_addr().unwrap().port()
    );
    let (send, received) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let lines = mail_session(stream.unwrap(), recipient);
            if send.send(lines).is_err() {
                return;
            }
        }
    });
    Letters { url, received }
}

fn mail_session(mut stream: TcpStream, recipient: &str) -> Vec<String> {
    let reader = BufReader::new(stream.try_clone().unwrap());
    let mut lines = Vec::new();
    let mut is_data = false;
    let mut answer = |text: &str| {
        let _ = write!(stream, "{text}\r\n");
    };
    answer("220 stand-in");
    for line in reader.lines() {
        let Ok(line) = line else { break };
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_uppercase();
        lines.push(line.clone());
        match verb.as_str() {
            _ if is_data && line == "." => {
                is_data = false;
                answer("250 taken");
            }
            _ if is_data => {}
            "EHLO" => answer("250-stand-in\r\n250-8BITMIME\r\n250 AUTH PLAIN"),
            "AUTH" => answer("235 welcome"),
            "RCPT" => answer(recipient),
            "DATA" => {
                is_data = true;
                answer("354 go on");
            }
            "QUIT" => {
                answer("221 bye");
                break;
            }
            _ => answer("250 so be it"),
        }
    }
    lines
}

fn mail_channel(url: &str) -> String {
    format!(
        "[[channel]]\nname = \"ops\"\nkind = \"email\"\nurl = \"{url}\"\n\
         from = \"Cambium <cambium@example.org>\"\nto = [\"ops@example.org\", \"duty@example.org\"]\n"
    )
}

#[test]
fn mail_is_delivered() {
    let directory = tempfile::tempdir().unwrap();
    let letters = mail_server("250 known");
    let (code, said) = tried(directory.path(), &mail_channel(&letters.url));
    assert_eq!(code, Some(0), "{said}");
    let mut threads = Vec::new();
    let mut names = Vec::new();
    for subject in ["[info] test: ", "[resolved] test: "] {
        let lines = letters.received.recv().unwrap();
        let said = |text: &str| lines.iter().any(|line| line.starts_with(text));
        // "\0cambium\0secret" in base 64.
        assert!(said("AUTH PLAIN AGNhbWJpdW0Ac2VjcmV0"), "{lines:?}");
        assert!(said("MAIL FROM:<cambium@example.org>"), "{lines:?}");
        assert!(
            said("RCPT TO:<ops@example.org>") && said("RCPT TO:<duty@example.org>"),
            "{lines:?}"
        );
        assert!(
            said(&format!("Subject: {subject}a test of this channel")),
            "{lines:?}"
        );
        assert!(
            said("Date: ") && said("now 12, expected 200 (-94 %)"),
            "{lines:?}"
        );
        let header = |name: &str| {
            let found = lines.iter().find(|line| line.starts_with(name));
            found.unwrap_or_else(|| panic!("no {name}: {lines:?}")).clone()
        };
        threads.push(header("References: "));
        names.push(header("Message-ID: "));
    }
    assert_eq!(threads[0], threads[1]);
    assert_ne!(names[0], names[1]);
}

#[test]
fn a_mail_server_that_refuses_is_quoted() {
    let directory = tempfile::tempdir().unwrap();
    let letters = mail_server("550 no such mailbox here");
    let (code, said) = tried(directory.path(), &mail_channel(&letters.url));
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("ops: the mail was not taken") && said.contains("no such mailbox here"),
        "{said}"
    );
    assert!(!said.contains("secret"), "a password is shown: {said}");
}
