//! A ttrpc client of unary calls.
//!
//! containerd refuses a request whose stream number is not above that of the one before (ttrpc 1.2 in Go), so numbers
//! are given and requests queued under one lock. A connection is one task, which ends with it and closes its socket
//! (F8); it is never made anew in here.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protobuf::Message as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use ttrpc::{Request, Response};

/// The longest payload of a frame, in bytes; containerd's own limit.
pub(super) const MOST: usize = 4 << 20;
/// The length of a header: length and stream, big-endian, then type and flags.
const HEADER: usize = 10;
/// The type of a request.
const REQUEST: u8 = 1;
/// The type of a response.
const RESPONSE: u8 = 2;

/// A connection. It closes when it is dropped.
#[derive(Debug)]
pub(super) struct Client {
    shared: Arc<Shared>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// There is something to write.
    wake: Notify,
}

#[derive(Debug)]
struct State {
    /// The next stream's number; none once all have been used.
    next: Option<u32>,
    /// Frames that are to be written.
    outgoing: VecDeque<Vec<u8>>,
    /// Who waits for the answer of which stream.
    waiting: HashMap<u32, oneshot::Sender<Response>>,
    /// Why the connection has closed.
    closed: Option<String>,
}

impl Client {
    /// Connects to the socket at `path`. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// What connect(2) answers.
    pub(super) async fn connect(path: &Path) -> io::Result<Self> {
        Ok(Self::over(UnixStream::connect(path).await?))
    }

    fn over(stream: UnixStream) -> Self {
        let state = State { next: Some(1), outgoing: VecDeque::new(), waiting: HashMap::new(), closed: None };
        let shared = Arc::new(Shared { state: Mutex::new(state), wake: Notify::new() });
        let task = tokio::spawn(run(stream, Arc::clone(&shared))).abort_handle();
        Self { shared, task }
    }

    /// Whether the connection has closed, so that every further call fails.
    pub(super) fn is_closed(&self) -> bool {
        self.shared.lock().closed.is_some()
    }

    /// Sends a request and waits for its answer, for as long as the connection is open.
    ///
    /// # Errors
    /// Why the connection has closed; the request may have arrived even so. `InvalidInput` for a request that is too long.
    pub(super) async fn call(&self, request: &Request) -> io::Result<Response> {
        let payload = request.write_to_bytes().map_err(|error| refused(error.to_string()))?;
        if payload.len() > MOST {
            return Err(refused(format!("a request of {} bytes is longer than {MOST}", payload.len())));
        }
        let (stream, answer) = self.shared.enqueue(&payload)?;
        let _forget = Forget { shared: &self.shared, stream };
        answer.await.map_err(|_| self.shared.lock().reason())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
        self.shared.close("it was given up");
    }
}

impl Shared {
    /// Takes a number and queues the request, under one lock.
    fn enqueue(&self, payload: &[u8]) -> io::Result<(u32, oneshot::Receiver<Response>)> {
        let length = u32::try_from(payload.len()).map_err(|error| refused(error.to_string()))?;
        let (sender, answer) = oneshot::channel();
        let mut state = self.lock();
        if state.closed.is_some() {
            return Err(state.reason());
        }
        let Some(stream) = state.next else {
            state.closed = Some("all its stream numbers have been used".to_owned());
            return Err(state.reason());
        };
        state.next = stream.checked_add(2);
        let mut frame = Vec::with_capacity(HEADER + payload.len());
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(&[REQUEST, 0]);
        frame.extend_from_slice(payload);
        state.outgoing.push_back(frame);
        state.waiting.insert(stream, sender);
        drop(state);
        self.wake.notify_one();
        Ok((stream, answer))
    }

    fn close(&self, why: impl ToString) {
        let mut state = self.lock();
        state.closed.get_or_insert_with(|| why.to_string());
        state.outgoing = VecDeque::new();
        // Whoever waits learns of it as its sender goes.
        state.waiting = HashMap::new();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn reason(&self) -> io::Error {
        let why = self.closed.as_deref().unwrap_or("it is closing");
        io::Error::new(io::ErrorKind::ConnectionAborted, format!("the ttrpc connection is closed: {why}"))
    }
}

/// Forgets a call that nobody waits for any more.
struct Forget<'a> {
    shared: &'a Shared,
    stream: u32,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.shared.lock().waiting.remove(&self.stream);
    }
}

/// Reads and writes until either ends.
async fn run(mut stream: UnixStream, shared: Arc<Shared>) {
    let (read, write) = stream.split();
    let Err(error) = tokio::select! {
        ended = receive(read, &shared) => ended,
        ended = send(write, &shared) => ended,
    };
    shared.close(error);
}

async fn send(mut to: impl AsyncWrite + Unpin, shared: &Shared) -> io::Result<std::convert::Infallible> {
    loop {
        let next = shared.lock().outgoing.pop_front();
        match next {
            Some(frame) => to.write_all(&frame).await?,
            None => shared.wake.notified().await,
        }
    }
}

async fn receive(mut from: impl AsyncRead + Unpin, shared: &Shared) -> io::Result<std::convert::Infallible> {
    loop {
        let mut header = [0; HEADER];
        from.read_exact(&mut header).await?;
        let [l0, l1, l2, l3, s0, s1, s2, s3, kind, _flags] = header;
        let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        let stream = u32::from_be_bytes([s0, s1, s2, s3]);
        if length > MOST {
            return Err(garbled(format!("a frame of {length} bytes came, longer than {MOST}")));
        }
        let mut payload = vec![0; length];
        from.read_exact(&mut payload).await?;
        if kind != RESPONSE {
            continue;
        }
        let response = Response::parse_from_bytes(&payload)
            .map_err(|error| garbled(format!("a response cannot be decoded: {error}")))?;
        if let Some(caller) = shared.lock().waiting.remove(&stream) {
            // A caller that has just gone does not want it.
            let _ = caller.send(response);
        }
    }
}

fn refused(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

fn garbled(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn request(from: &mut UnixStream) -> (u32, Request) {
        let mut header = [0; HEADER];
        from.read_exact(&mut header).await.unwrap();
        let number = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().unwrap());
        let mut payload = vec![0; number(0) as usize];
        from.read_exact(&mut payload).await.unwrap();
        assert_eq!(header[8..], [REQUEST, 0]);
        (number(4), Request::parse_from_bytes(&payload).unwrap())
    }

    async fn answer(to: &mut UnixStream, stream: u32, text: &str) {
        let response = Response { payload: text.into(), ..Default::default() }.write_to_bytes().unwrap();
        let mut frame = u32::try_from(response.len()).unwrap().to_be_bytes().to_vec();
        frame.extend(stream.to_be_bytes());
        frame.extend([RESPONSE, 0]);
        frame.extend(response);
        to.write_all(&frame).await.unwrap();
    }

    fn ask(client: &Arc<Client>, method: String) -> tokio::task::JoinHandle<io::Result<Response>> {
        let client = Arc::clone(client);
        tokio::spawn(async move { client.call(&Request { method, ..Default::default() }).await })
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn numbers_rise_on_the_wire_and_answers_find_their_callers() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let client = Arc::new(Client::over(ours));
        let calls: Vec<_> = (0..200).map(|n| ask(&client, n.to_string())).collect();
        let mut asked = Vec::new();
        for _ in 0..200 {
            asked.push(request(&mut theirs).await);
        }
        assert!(asked.iter().map(|(stream, _)| *stream).eq((0..200).map(|n| 2 * n + 1)));
        for (stream, request) in asked.iter().rev() {
            answer(&mut theirs, *stream, &request.method).await;
        }
        for (n, call) in calls.into_iter().enumerate() {
            assert_eq!(call.await.unwrap().unwrap().payload, n.to_string().into_bytes());
        }
        assert!(client.shared.lock().waiting.is_empty());
    }

    #[tokio::test]
    async fn f8_a_connection_that_breaks_or_is_dropped_closes_its_socket_and_fails_its_calls() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let client = Arc::new(Client::over(ours));
        let call = ask(&client, "m".to_owned());
        request(&mut theirs).await;
        drop(theirs);
        assert_eq!(call.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert!(client.is_closed());
        assert!(client.call(&Request::new()).await.is_err());

        let (ours, mut theirs) = UnixStream::pair().unwrap();
        drop(Client::over(ours));
        assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_call_that_is_given_up_is_forgotten_and_its_answer_ignored() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let client = Arc::new(Client::over(ours));
        let given_up = ask(&client, "a".to_owned());
        let (stream, _) = request(&mut theirs).await;
        given_up.abort();
        assert!(given_up.await.is_err());
        assert!(client.shared.lock().waiting.is_empty());
        answer(&mut theirs, stream, "late").await;
        let call = ask(&client, "b".to_owned());
        let (stream, _) = request(&mut theirs).await;
        answer(&mut theirs, stream, "b").await;
        assert_eq!(call.await.unwrap().unwrap().payload, b"b");
    }

    #[tokio::test]
    async fn nonsense_closes_the_connection() {
        for nonsense in [&b"\xff\xff\xff\xff\0\0\0\x01\x02\0"[..], b"\0\0\0\x03\0\0\0\x01\x02\0\x0a\x05c"] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let client = Arc::new(Client::over(ours));
            let call = ask(&client, "m".to_owned());
            request(&mut theirs).await;
            theirs.write_all(nonsense).await.unwrap();
            assert!(call.await.unwrap().is_err());
        }
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let long = Request { payload: vec![0; MOST], ..Default::default() };
        assert_eq!(Client::over(ours).call(&long).await.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
