//! The embedded engine's HTTP interface.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use super::{client, engine, number};

#[test]
fn clickhouses_own_javascript_client_works() {
    let data = tempfile::tempdir().unwrap();
    let engine = engine(data.path());
    let scratch = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("live/clickhouse_client");
    for name in ["package.json", "package-lock.json", "test.mjs"] {
        std::fs::copy(source.join(name), scratch.path().join(name)).unwrap();
    }
    let install = Command::new("npm")
        .args(["ci", "--silent"])
        .current_dir(scratch.path())
        .status();
    assert!(
        install.expect("npm runs").success(),
        "npm could not install @clickhouse/client"
    );
    for mode in ["plain", "compressed"] {
        let node = Command::new("node")
            .args(["test.mjs", engine.url(), mode])
            .current_dir(scratch.path())
            .output();
        let output = node.expect("node runs");
        assert!(
            output.status.success(),
            "{mode}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[tokio::test]
async fn what_was_inserted_survives_a_kill() {
    let data = tempfile::tempdir().unwrap();
    let before = engine(data.path());
    let id = before.id().to_string();
    let asked = client(before.url());
    asked.execute("CREATE DATABASE kept").await.unwrap_err();
    let default = cambium_clickhouse::Client::new(before.url(), "default", None, "default");
    default
        .execute("CREATE TABLE kept (id UInt64) ENGINE = MergeTree ORDER BY id")
        .await
        .unwrap();
    default
        .execute("INSERT INTO kept SELECT number FROM numbers(1000)")
        .await
        .unwrap();
    default
        .execute("INSERT INTO kept VALUES (1000), (1001)")
        .await
        .unwrap();
    assert!(
        Command::new("kill")
            .args(["-KILL", &id])
            .status()
            .unwrap()
            .success()
    );
    drop(before);
    let after = engine(data.path());
    let default = cambium_clickhouse::Client::new(after.url(), "default", None, "default");
    assert_eq!(number(&default, "SELECT count() FROM kept").await.unwrap(), 1002);
}

/// An answer as it comes over the wire: head and body.
fn request(url: &str, target: &str, head: &str, body: &[u8]) -> (String, Vec<u8>) {
    let address = url.strip_prefix("http://").unwrap();
    let mut connection = TcpStream::connect(address).unwrap();
    write!(
        connection,
        "POST {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n{head}\r\n",
        body.len()
    )
    .unwrap();
    connection.write_all(body).unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    (
        String::from_utf8(answer[..end].to_vec()).unwrap(),
        answer[end + 4..].to_vec(),
    )
}

#[test]
fn errors_have_their_status_and_code() {
    let data = tempfile::tempdir().unwrap();
    let engine = engine(data.path());
    for (query, status, code) in [
        ("SELECT 1", "200", None),
        ("SELECT * FROM no_such_table", "404", Some("60")),
        ("SELEC 1", "400", Some("62")),
        ("SELECT throwIf(1)", "500", Some("395")),
        ("SELECT x", "400", Some("47")),
    ] {
        let (head, _) = request(engine.url(), "/", "", query.as_bytes());
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{query}: {head}");
        let found = head
            .lines()
            .find_map(|line| line.strip_prefix("x-clickhouse-exception-code: "));
        assert_eq!(found, code, "{query}");
    }
    // In the middle of a stream: the answer breaks off, without the chunk that ends it.
    let query = "SELECT throwIf(number = 1000000) FROM numbers(2000000) SETTINGS max_block_size = 65536";
    let (head, body) = request(engine.url(), "/", "", query.as_bytes());
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(!body.ends_with(b"0\r\n\r\n"), "the answer looks whole");
    // A form: query and parameters as its parts.
    let form = "--b\r\ncontent-disposition: form-data; name=\"query\"\r\n\r\nSELECT {a:UInt8} + 1\r\n--b\r\n\
                content-disposition: form-data; name=\"param_a\"\r\n\r\n41\r\n--b--\r\n";
    let (head, body) = request(
        engine.url(),
        "/",
        "content-type: multipart/form-data; boundary=b\r\n",
        form.as_bytes(),
    );
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(
        String::from_utf8_lossy(&body).contains("42"),
        "{}",
        String::from_utf8_lossy(&body)
    );
}

/// The statements for a cluster, which cannot be run here, are understood.
#[tokio::test]
async fn the_statements_for_a_cluster_are_sql() {
    let directory = tempfile::tempdir().unwrap();
    let engine = super::engine(directory.path());
    let client = cambium_clickhouse::Client::new(engine.url(), "default", None, "default");
    for (name, statement) in cambium_clickhouse::statements(Some("main")) {
        let parsed = client.fetch(&format!("EXPLAIN AST {statement}"), "Null").await;
        assert!(parsed.is_ok(), "{name}: {parsed:?}\n{statement}");
    }
}
