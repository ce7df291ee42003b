//! ClickHouse's HTTP interface.

use std::fs;
use std::future::Future;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::Response;
use axum::serve::ListenerExt;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::body::{Encoder, Encoding, Incoming, Outgoing, decoded};
use super::chdb::{Answer, Blocks, Engine, Session};
use super::library::Library;
use super::request::{InsertQuery, Request, first_word, insert_query, named_format};

/// The file in the data directory that holds the address of the process that serves it.
pub const ADDRESS_FILE: &str = "clickhouse.address";
const LOCK_FILE: &str = "clickhouse.lock";
/// What is read of a body before it must be a query: ClickHouse's `max_query_size` is 256 KiB.
const MAX_QUERY_BYTES: u64 = 64 << 20;
const PIECE_BYTES: usize = 1 << 18;

pub struct Options {
    pub data: PathBuf,
    pub listen: SocketAddr,
    /// Asked of every client; needed where others than this machine can reach the address.
    pub password: Option<String>,
}

impl Options {
    /// Whether the address may be listened on.
    pub fn check(&self) -> Result<()> {
        ensure!(
            self.listen.ip().is_loopback()
                || self
                    .password
                    .as_ref()
                    .is_some_and(|password| !password.is_empty()),
            "--listen {} can be reached from other machines: give a password (--password-file FILE), or listen on 127.0.0.1",
            self.listen
        );
        Ok(())
    }
}

struct Server {
    engine: Engine,
    password: Option<String>,
}

/// Serves the engine until `shutdown` is ready. `listening` is told the address.
pub async fn serve(
    options: Options,
    listening: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    options.check()?;
    fs::create_dir_all(&options.data).with_context(|| format!("cannot create {}", options.data.display()))?;
    let lock_path = options.data.join(LOCK_FILE);
    let lock =
        fs::File::create(&lock_path).with_context(|| format!("cannot create {}", lock_path.display()))?;
    if lock.try_lock().is_err() {
        bail!(
            "another process runs the engine on {}; `cambium query` asks that one",
            options.data.display()
        );
    }
    let library = tokio::task::spawn_blocking(Library::obtain).await??;
    let data = options.data.clone();
    let engine = tokio::task::spawn_blocking(move || Engine::open(&library.path, &data)).await??;
    // Kept until the end: without a connection the engine would stop between two queries.
    let first = engine.connect()?;
    let listener = TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("cannot listen on {}; is the port taken?", options.listen))?;
    let address = listener.local_addr()?;
    let address_path = options.data.join(ADDRESS_FILE);
    fs::write(&address_path, format!("http://{address}"))
        .with_context(|| format!("cannot write {}", address_path.display()))?;
    listening(address);
    let server = Arc::new(Server {
        engine,
        password: options.password,
    });
    // An answer's end would wait 40 ms for the beginning to be acknowledged.
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!("a connection takes its time: {error}");
        }
    });
    let app = Router::new().fallback(answer).with_state(server);
    let served = axum::serve(listener, app).with_graceful_shutdown(shutdown).await;
    let _ = fs::remove_file(&address_path);
    drop(first);
    served.context("the HTTP server failed")
}

async fn answer(
    State(server): State<Arc<Server>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    match uri.path() {
        "/ping" | "/replicas_status" => return plain(StatusCode::OK, "Ok.\n"),
        "/" => {}
        _ => return plain(StatusCode::NOT_FOUND, "There is no such handler\n"),
    }
    let mut request = Request::new(uri.query().unwrap_or_default(), &headers);
    if server
        .password
        .as_ref()
        .is_some_and(|password| *password != request.password)
    {
        let text = format!(
            "Code: 516. DB::Exception: {}: Authentication failed: password is incorrect. (AUTHENTICATION_FAILED)\n",
            if request.user.is_empty() {
                "default"
            } else {
                &request.user
            }
        );
        return failure(&text);
    }
    let body = match read_form(&mut request, &headers, body).await {
        Ok(body) => body,
        Err(error) => return failure(&format!("Code: 36. DB::Exception: {error}. (BAD_ARGUMENTS)\n")),
    };
    if method == Method::GET {
        if request.query.is_empty() {
            return plain(StatusCode::OK, "Ok.\n");
        }
        request
            .settings
            .entry("readonly".to_owned())
            .or_insert_with(|| "2".to_owned());
    }
    run(&server, request, headers, body).await
}

/// Takes the parts of a form into the request; any other body stays as it is.
async fn read_form(request: &mut Request, headers: &HeaderMap, body: Body) -> Result<Incoming> {
    let content_type = headers
        .get("content-type")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let Ok(boundary) = multer::parse_boundary(content_type) else {
        return Ok(Incoming::new(body));
    };
    let mut form = multer::Multipart::new(body.into_data_stream(), boundary);
    while let Some(field) = form.next_field().await? {
        let name = field.name().unwrap_or_default().to_owned();
        let value = field.bytes().await?;
        request.take(&name, &value);
    }
    Ok(Incoming::of(Bytes::new()))
}

/// What is known when the answer begins.
struct Head {
    format: String,
    rows_read: u64,
    rows_written: u64,
    result_bytes: usize,
}

async fn run(server: &Arc<Server>, request: Request, headers: HeaderMap, body: Incoming) -> Response {
    let encoding = request.encoding(&headers);
    let query_id = if request.query_id.is_empty() {
        "-".to_owned()
    } else {
        request.query_id.clone()
    };
    let content = headers
        .get("content-encoding")
        .and_then(|value| value.to_str().ok())
        .unwrap_or("")
        .to_owned();
    let (out, out_body) = Outgoing::new();
    let (begin, begun) = oneshot::channel();
    let engine = server.engine.clone();
    tokio::task::spawn_blocking(move || {
        let mut job = Job {
            request,
            begin: Some(begin),
            out: Some(out),
            encoding,
        };
        if let Err(error) = job.run(&engine, body, &content) {
            job.fail(&error);
        }
    });
    match begun.await {
        Ok(Ok(head)) => success(&head, encoding, &query_id, out_body),
        Ok(Err(error)) => failure(&error),
        Err(_) => {
            failure("Code: 1002. DB::Exception: the query ended without an answer. (UNKNOWN_EXCEPTION)")
        }
    }
}

/// One query on its way, on a thread that may block.
struct Job {
    request: Request,
    /// Taken when the status has been sent.
    begin: Option<oneshot::Sender<Result<Head, String>>>,
    out: Option<Outgoing>,
    encoding: Encoding,
}

impl Job {
    fn run(&mut self, engine: &Engine, body: Incoming, content_encoding: &str) -> Result<(), String> {
        let mut body =
            decoded(body, content_encoding, self.request.decompress).map_err(|error| bad(&error))?;
        if self.request.query.is_empty() {
            body.by_ref()
                .take(MAX_QUERY_BYTES)
                .read_to_end(&mut self.request.query)
                .map_err(|error| bad(&error))?;
        }
        let mut session = engine
            .connect()
            .map_err(|error| format!("Code: 1002. DB::Exception: {error:#}"))?;
        self.prepare(&mut session)?;
        match insert_query(&self.request.query) {
            Some(insert) => self.insert(&mut session, insert, body),
            None => {
                // What a client sends behind a query in the URL belongs to it, as in ClickHouse.
                let length = self.request.query.len();
                let rest = body
                    .by_ref()
                    .take(MAX_QUERY_BYTES)
                    .read_to_end(&mut self.request.query);
                rest.map_err(|error| bad(&error))?;
                if self.request.query.len() > length && length > 0 {
                    self.request.query.insert(length, b'\n');
                }
                self.select(&mut session)
            }
        }
    }

    /// The database and the settings, one statement each: the session is the query's own.
    fn prepare(&self, session: &mut Session) -> Result<(), String> {
        if !self.request.database.is_empty() {
            let statement = format!("USE `{}`", self.request.database.replace('`', "\\`"));
            session.query(statement.as_bytes(), "Null", &[])?;
        }
        for (name, value) in &self.request.settings {
            if !name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            {
                return Err(format!(
                    "Code: 115. DB::Exception: '{name}' is no setting. (UNKNOWN_SETTING)"
                ));
            }
            let value = value.replace('\\', "\\\\").replace('\'', "\\'");
            session.query(format!("SET {name} = '{value}'").as_bytes(), "Null", &[])?;
        }
        Ok(())
    }

    fn insert(
        &mut self,
        session: &mut Session,
        insert: InsertQuery,
        mut body: Box<dyn Read + Send>,
    ) -> Result<(), String> {
        let format = if insert.format.is_empty() {
            self.request.format.clone()
        } else {
            insert.format
        };
        let mut stream = session.insert(&insert.statement, &format, &self.request.parameters)?;
        if !insert.inline.is_empty() {
            stream.append(&insert.inline)?;
        }
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            // A body that breaks off gives the insert up: half of it must not be written.
            let length = body.read(&mut piece).map_err(|error| bad(&error))?;
            if length == 0 {
                break;
            }
            stream.append(&piece[..length])?;
        }
        let rows_written = stream.finish()?;
        drop(stream);
        self.begin(Head {
            format,
            rows_read: 0,
            rows_written,
            result_bytes: 0,
        });
        Ok(())
    }

    fn select(&mut self, session: &mut Session) -> Result<(), String> {
        let query = self.request.query.clone();
        let format = named_format(&query).unwrap_or_else(|| self.request.format.clone());
        let can_stream = matches!(first_word(&query).as_str(), "select" | "with");
        if can_stream && let Some(header) = Header::of(&format) {
            let mut blocks = session.stream(&query, &self.request.format, &self.request.parameters)?;
            if let Some(first) = blocks.next_block()? {
                return self.send_blocks(first, blocks, format, header);
            }
        }
        let answer = session.query(&query, &self.request.format, &self.request.parameters)?;
        self.begin(Head {
            format,
            rows_read: answer.rows_read(),
            rows_written: answer.rows_written(),
            result_bytes: answer.bytes().len(),
        });
        let mut out = self.encoder()?;
        // A client that went away is no error of the query.
        let _ = out
            .write_all(answer.bytes())
            .and_then(|()| out.finish().map(drop));
        Ok(())
    }

    fn send_blocks(
        &mut self,
        first: Answer,
        mut blocks: Blocks<'_>,
        format: String,
        header: Header,
    ) -> Result<(), String> {
        self.begin(Head {
            format,
            rows_read: first.rows_read(),
            rows_written: 0,
            result_bytes: 0,
        });
        let mut out = self.encoder()?;
        if out.write_all(first.bytes()).is_err() {
            return Ok(());
        }
        loop {
            match blocks.next_block() {
                Ok(None) => {
                    let _ = out.finish();
                    return Ok(());
                }
                Ok(Some(block)) => {
                    // Every block comes with the header of its format; the first one stays.
                    if out
                        .write_all(&block.bytes()[header.length(block.bytes())..])
                        .is_err()
                    {
                        return Ok(());
                    }
                }
                Err(error) => {
                    let _ = out.write_all(error.as_bytes());
                    if let Ok(out) = out.finish() {
                        out.abort(&error);
                    }
                    return Ok(());
                }
            }
        }
    }

    fn encoder(&mut self) -> Result<Encoder, String> {
        let out = self
            .out
            .take()
            .ok_or("Code: 1002. DB::Exception: the answer was begun twice")?;
        Encoder::new(self.encoding, out).map_err(|error| bad(&error))
    }

    fn begin(&mut self, head: Head) {
        if let Some(begin) = self.begin.take() {
            let _ = begin.send(Ok(head));
        }
    }

    fn fail(&mut self, error: &str) {
        if let Some(begin) = self.begin.take() {
            let _ = begin.send(Err(error.to_owned()));
        }
    }
}

fn bad(error: &io::Error) -> String {
    format!("Code: 36. DB::Exception: the request's body cannot be read: {error}. (BAD_ARGUMENTS)")
}

/// The formats whose blocks can follow each other, and what each block repeats in front.
#[derive(Clone, Copy)]
enum Header {
    None,
    Lines(usize),
    /// A count, names, and with `true` types, each with its length.
    Binary(bool),
}

impl Header {
    fn of(format: &str) -> Option<Header> {
        Some(match format {
            "TabSeparated" | "TSV" | "TabSeparatedRaw" | "TSVRaw" | "CSV" | "JSONEachRow" | "NDJSON"
            | "JSONLines" | "JSONCompactEachRow" | "RowBinary" | "Native" | "LineAsString" | "RawBLOB" => {
                Header::None
            }
            "TabSeparatedWithNames" | "TSVWithNames" | "CSVWithNames" | "JSONCompactEachRowWithNames" => {
                Header::Lines(1)
            }
            "TabSeparatedWithNamesAndTypes"
            | "TSVWithNamesAndTypes"
            | "CSVWithNamesAndTypes"
            | "JSONCompactEachRowWithNamesAndTypes" => Header::Lines(2),
            "RowBinaryWithNames" => Header::Binary(false),
            "RowBinaryWithNamesAndTypes" => Header::Binary(true),
            _ => return None,
        })
    }

    fn length(self, block: &[u8]) -> usize {
        match self {
            Header::None => 0,
            Header::Lines(lines) => block
                .iter()
                .enumerate()
                .filter(|(_, byte)| **byte == b'\n')
                .nth(lines - 1)
                .map_or(block.len(), |(place, _)| place + 1),
            Header::Binary(types) => {
                let (count, mut at) = length_at(block, 0);
                for _ in 0..count * (1 + usize::from(types)) {
                    let (length, next) = length_at(block, at);
                    at = next + length;
                }
                at.min(block.len())
            }
        }
    }
}

/// A length in base 128, and where it ends.
fn length_at(block: &[u8], mut at: usize) -> (usize, usize) {
    let (mut value, mut shift) = (0usize, 0);
    while let Some(byte) = block.get(at) {
        value |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    (value, at)
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
}

fn success(head: &Head, encoding: Encoding, query_id: &str, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    let summary = format!(
        r#"{{"read_rows":"{}","read_bytes":"0","written_rows":"{}","written_bytes":"0","total_rows_to_read":"0","result_rows":"{}","result_bytes":"{}","elapsed_ns":"0"}}"#,
        head.rows_read, head.rows_written, head.rows_written, head.result_bytes
    );
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set("x-clickhouse-summary", &summary);
    set("x-clickhouse-format", &head.format);
    set("x-clickhouse-query-id", query_id);
    set("x-clickhouse-timezone", "UTC");
    set("content-type", content_type(&head.format));
    if let Some(encoding) = encoding.header() {
        set("content-encoding", encoding);
    }
    response
}

fn content_type(format: &str) -> &'static str {
    match format {
        "JSON" | "JSONCompact" | "JSONStrings" => "application/json; charset=UTF-8",
        "JSONEachRow" | "JSONCompactEachRow" => "application/x-ndjson; charset=UTF-8",
        "CSV" | "CSVWithNames" | "CSVWithNamesAndTypes" => "text/csv; charset=UTF-8; header=absent",
        "TabSeparated" | "TSV" | "TabSeparatedWithNames" | "TSVWithNames" => {
            "text/tab-separated-values; charset=UTF-8"
        }
        _ => "application/octet-stream",
    }
}

/// An exception of the engine's as ClickHouse answers it: the status by its code.
fn failure(error: &str) -> Response {
    let code: u32 = error
        .strip_prefix("Code: ")
        .and_then(|rest| rest.split('.').next())
        .and_then(|code| code.parse().ok())
        .unwrap_or(1002);
    let status = match code {
        194 | 516 => StatusCode::UNAUTHORIZED,
        497 | 164 => StatusCode::FORBIDDEN,
        60 | 81 | 46 | 83 | 218 => StatusCode::NOT_FOUND,
        62 | 6 | 26 | 27 | 36 | 38 | 41 | 42 | 43 | 47 | 53 | 57 | 70 | 72 | 115 | 117 | 130 | 131 | 179
        | 386 | 456 => StatusCode::BAD_REQUEST,
        241 => StatusCode::INSUFFICIENT_STORAGE,
        159 => StatusCode::REQUEST_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut response = Response::new(Body::from(format!("{}\n", error.trim_end())));
    *response.status_mut() = status;
    if let Ok(value) = HeaderValue::from_str(&code.to_string()) {
        response
            .headers_mut()
            .insert("x-clickhouse-exception-code", value);
    }
    response
}
