//! A safe face for the C interface of `libchdb.so`. Unsafe code stands behind small faces: here, in `cambium-kafka`
//! (batches) and in `cambium-event` (plain text).
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use libloading::Library;

type Connection = *mut c_void;
type ResultHandle = *mut c_void;
type InsertHandle = *mut c_void;

/// The functions that are used, with the library that they live in.
struct Functions {
    connect: unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut Connection,
    close: unsafe extern "C" fn(*mut Connection),
    query: QueryFunction,
    stream_query: QueryFunction,
    fetch: unsafe extern "C" fn(Connection, ResultHandle) -> ResultHandle,
    cancel: unsafe extern "C" fn(Connection, ResultHandle),
    buffer: unsafe extern "C" fn(ResultHandle) -> *const c_char,
    length: unsafe extern "C" fn(ResultHandle) -> usize,
    error: unsafe extern "C" fn(ResultHandle) -> *const c_char,
    rows_read: unsafe extern "C" fn(ResultHandle) -> u64,
    rows_written: unsafe extern "C" fn(ResultHandle) -> u64,
    destroy: unsafe extern "C" fn(ResultHandle),
    insert: unsafe extern "C" fn(
        Connection,
        *const c_char,
        usize,
        *const c_char,
        usize,
        *const *const c_char,
        *const usize,
        *const *const c_char,
        *const usize,
        usize,
    ) -> InsertHandle,
    append: unsafe extern "C" fn(InsertHandle, *const c_void, usize) -> c_int,
    done: unsafe extern "C" fn(InsertHandle) -> ResultHandle,
    insert_error: unsafe extern "C" fn(InsertHandle) -> *const c_char,
    cancel_insert: unsafe extern "C" fn(InsertHandle),
    destroy_insert: unsafe extern "C" fn(InsertHandle),
    /// Never unloaded: the engine's own threads run in it until the process ends.
    _library: ManuallyDrop<Library>,
}

type QueryFunction = unsafe extern "C" fn(
    Connection,
    *const c_char,
    usize,
    *const c_char,
    usize,
    *const *const c_char,
    *const usize,
    *const *const c_char,
    *const usize,
    usize,
) -> ResultHandle;

/// The engine on one directory.
#[derive(Clone)]
pub struct Engine {
    functions: Arc<Functions>,
    path: CString,
}

impl Engine {
    /// Loads the library and opens the directory; the first connection starts the engine.
    pub fn open(library: &Path, data: &Path) -> Result<Engine> {
        let shown = library.display();
        // SAFETY: loading runs the library's initialisers; it is ClickHouse's engine, checked by digest or
        // named by the user. The types below are those of its public header.
        let functions = unsafe {
            let library = Library::new(library).with_context(|| format!("cannot load {shown}"))?;
            macro_rules! function {
                ($name:literal) => {
                    *library
                        .get(concat!($name, "\0").as_bytes())
                        .with_context(|| format!("{shown} has no function {}; another release?", $name))?
                };
            }
            let signals: unsafe extern "C" fn(c_int) = function!("chdb_set_signal_handlers_enabled");
            signals(0);
            Functions {
                connect: function!("chdb_connect"),
                close: function!("chdb_close_conn"),
                query: function!("chdb_query_with_params_n"),
                stream_query: function!("chdb_stream_query_with_params_n"),
                fetch: function!("chdb_stream_fetch_result"),
                cancel: function!("chdb_stream_cancel_query"),
                buffer: function!("chdb_result_buffer"),
                length: function!("chdb_result_length"),
                error: function!("chdb_result_error"),
                rows_read: function!("chdb_result_rows_read"),
                rows_written: function!("chdb_result_rows_written"),
                destroy: function!("chdb_destroy_query_result"),
                insert: function!("chdb_stream_insert_with_params_n"),
                append: function!("chdb_stream_append"),
                done: function!("chdb_stream_done"),
                insert_error: function!("chdb_stream_insert_error"),
                cancel_insert: function!("chdb_stream_cancel_insert"),
                destroy_insert: function!("chdb_destroy_insert_stream"),
                _library: ManuallyDrop::new(library),
            }
        };
        let path =
            CString::new(format!("--path={}", data.display())).context("the path holds a zero byte")?;
        Ok(Engine {
            functions: Arc::new(functions),
            path,
        })
    }

    /// A session of its own: its database, settings and one statement at a time.
    pub fn connect(&self) -> Result<Session> {
        // On a terminal the engine would write one line a streamed insert ("current_thread contains
        // invalid address"), which says nothing about the insert. Errors come as answers.
        let mut arguments = [
            c"clickhouse".as_ptr().cast_mut(),
            self.path.as_ptr().cast_mut(),
            c"--logger.console=false".as_ptr().cast_mut(),
        ];
        // SAFETY: valid texts, which the engine copies.
        let connection =
            unsafe { (self.functions.connect)(arguments.len() as c_int, arguments.as_mut_ptr()) };
        if connection.is_null() {
            bail!(
                "the ClickHouse engine cannot open its directory; is another process using it, is the disk full?"
            );
        }
        Ok(Session {
            functions: self.functions.clone(),
            connection,
        })
    }
}

/// Names and values of `{name:Type}` in a query.
pub type Parameters = [(String, String)];

struct ParameterPointers {
    names: Vec<*const c_char>,
    name_lengths: Vec<usize>,
    values: Vec<*const c_char>,
    value_lengths: Vec<usize>,
}

impl ParameterPointers {
    fn new(parameters: &Parameters) -> Self {
        ParameterPointers {
            names: parameters.iter().map(|(name, _)| name.as_ptr().cast()).collect(),
            name_lengths: parameters.iter().map(|(name, _)| name.len()).collect(),
            values: parameters
                .iter()
                .map(|(_, value)| value.as_ptr().cast())
                .collect(),
            value_lengths: parameters.iter().map(|(_, value)| value.len()).collect(),
        }
    }
}

pub struct Session {
    functions: Arc<Functions>,
    connection: *mut Connection,
}

// SAFETY: a connection may be used from any thread, one at a time; `Session` is not `Sync`, and all
// that uses the connection takes `&mut`.
unsafe impl Send for Session {}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: opened by `connect`, closed once.
        unsafe { (self.functions.close)(self.connection) }
    }
}

impl Session {
    fn handle(&self) -> Connection {
        // SAFETY: not null; points to the handle as long as the connection is open.
        unsafe { *self.connection }
    }

    fn call(&self, function: QueryFunction, query: &[u8], format: &str, parameters: &Parameters) -> Answer {
        let pointers = ParameterPointers::new(parameters);
        // SAFETY: all pointers go with their lengths and outlive the call.
        let handle = unsafe {
            function(
                self.handle(),
                query.as_ptr().cast(),
                query.len(),
                format.as_ptr().cast(),
                format.len(),
                pointers.names.as_ptr(),
                pointers.name_lengths.as_ptr(),
                pointers.values.as_ptr(),
                pointers.value_lengths.as_ptr(),
                parameters.len(),
            )
        };
        Answer {
            functions: self.functions.clone(),
            handle,
        }
    }

    /// Runs a statement to its end; the whole result is in memory.
    pub fn query(&mut self, query: &[u8], format: &str, parameters: &Parameters) -> Result<Answer, String> {
        self.call(self.functions.query, query, format, parameters)
            .checked()
    }

    /// Begins a SELECT whose result is fetched block by block.
    pub fn stream<'s>(
        &'s mut self,
        query: &[u8],
        format: &str,
        parameters: &Parameters,
    ) -> Result<Blocks<'s>, String> {
        let answer = self
            .call(self.functions.stream_query, query, format, parameters)
            .checked()?;
        Ok(Blocks {
            session: self,
            answer,
            ended: false,
        })
    }

    /// Begins an INSERT whose data comes piece by piece.
    pub fn insert<'s>(
        &'s mut self,
        query: &[u8],
        format: &str,
        parameters: &Parameters,
    ) -> Result<Insert<'s>, String> {
        let pointers = ParameterPointers::new(parameters);
        // SAFETY: all pointers go with their lengths and outlive the call.
        let handle = unsafe {
            (self.functions.insert)(
                self.handle(),
                query.as_ptr().cast(),
                query.len(),
                format.as_ptr().cast(),
                format.len(),
                pointers.names.as_ptr(),
                pointers.name_lengths.as_ptr(),
                pointers.values.as_ptr(),
                pointers.value_lengths.as_ptr(),
                parameters.len(),
            )
        };
        let mut insert = Insert {
            session: self,
            handle,
            ended: false,
        };
        if let Err(error) = insert.check() {
            insert.ended = true;
            return Err(error);
        }
        Ok(insert)
    }
}

/// What the engine answered.
pub struct Answer {
    functions: Arc<Functions>,
    handle: ResultHandle,
}

// SAFETY: an answer is memory of its own, read and freed from any one thread.
unsafe impl Send for Answer {}

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: freed once; null is allowed.
        unsafe { (self.functions.destroy)(self.handle) }
    }
}

impl Answer {
    fn checked(self) -> Result<Answer, String> {
        if self.handle.is_null() {
            return Err(
                "Code: 1002. DB::Exception: the engine gave no answer. (UNKNOWN_EXCEPTION)".to_owned(),
            );
        }
        // SAFETY: a valid answer.
        match text(unsafe { (self.functions.error)(self.handle) }) {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the buffer has this length and lives as long as the answer.
        unsafe {
            let (buffer, length) = (
                (self.functions.buffer)(self.handle),
                (self.functions.length)(self.handle),
            );
            if buffer.is_null() || length == 0 {
                &[]
            } else {
                std::slice::from_raw_parts(buffer.cast(), length)
            }
        }
    }

    pub fn rows_read(&self) -> u64 {
        // SAFETY: a valid answer.
        unsafe { (self.functions.rows_read)(self.handle) }
    }

    pub fn rows_written(&self) -> u64 {
        // SAFETY: a valid answer.
        unsafe { (self.functions.rows_written)(self.handle) }
    }
}

/// A result on its way. Not read to its end, the query is cancelled.
pub struct Blocks<'s> {
    session: &'s mut Session,
    answer: Answer,
    ended: bool,
}

impl Blocks<'_> {
    /// The next block; none at the end.
    pub fn next_block(&mut self) -> Result<Option<Answer>, String> {
        if self.ended {
            return Ok(None);
        }
        // SAFETY: the connection runs this query.
        let handle = unsafe { (self.session.functions.fetch)(self.session.handle(), self.answer.handle) };
        let block = Answer {
            functions: self.session.functions.clone(),
            handle,
        }
        .checked();
        self.ended = block.as_ref().map_or(true, |block| block.bytes().is_empty());
        block.map(|block| (!self.ended).then_some(block))
    }
}

impl Drop for Blocks<'_> {
    fn drop(&mut self) {
        if !self.ended {
            // SAFETY: the connection runs this query.
            unsafe { (self.session.functions.cancel)(self.session.handle(), self.answer.handle) }
        }
    }
}

/// An INSERT on its way; dropped before it is done, it is given up.
pub struct Insert<'s> {
    session: &'s mut Session,
    handle: InsertHandle,
    ended: bool,
}

impl Insert<'_> {
    fn check(&self) -> Result<(), String> {
        // SAFETY: a valid insert.
        match text(unsafe { (self.session.functions.insert_error)(self.handle) }) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    pub fn append(&mut self, data: &[u8]) -> Result<(), String> {
        // SAFETY: the data goes with its length and is copied.
        let state = unsafe { (self.session.functions.append)(self.handle, data.as_ptr().cast(), data.len()) };
        if state == 0 {
            return Ok(());
        }
        // What is wrong with the data, the end of the insert says better than its middle.
        self.finish().map(|_| ()).and(Err(
            "Code: 1002. DB::Exception: the insert failed. (UNKNOWN_EXCEPTION)".into(),
        ))
    }

    /// Ends the insert; how many rows were written.
    pub fn finish(&mut self) -> Result<u64, String> {
        self.ended = true;
        // SAFETY: a valid insert.
        let handle = unsafe { (self.session.functions.done)(self.handle) };
        let answer = Answer {
            functions: self.session.functions.clone(),
            handle,
        }
        .checked()?;
        Ok(answer.rows_written())
    }
}

impl Drop for Insert<'_> {
    fn drop(&mut self) {
        // SAFETY: cancelled before it is done only, freed once.
        unsafe {
            if !self.ended {
                (self.session.functions.cancel_insert)(self.handle);
            }
            (self.session.functions.destroy_insert)(self.handle);
        }
    }
}

fn text(pointer: *const c_char) -> Option<String> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: a text of the engine's, ended by zero.
    let text = unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned();
    (!text.is_empty()).then_some(text)
}
